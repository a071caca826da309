//! Delta ADS: a pure session and the stream around it.
