//! Changing one thing of a rendered configuration.
