//! Text for people and data for programs on stdout and stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::{
    cli::{Color, Output},
    failure::Failure,
};

/// What a piece of text says, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It works.
    Good,
    /// It waits, or may surprise.
    Warning,
    /// It is refused or broken.
    Bad,
    /// A place or another detail.
    Faint,
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// The form of data.
    pub output: Output,
    stdout_color: bool,
    stderr_color: bool,
}

impl Style {
    /// From the command line and the environment (<https://no-color.org>).
    pub(crate) fn new(output: Output, color: Color) -> Self {
        let wanted = |terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Self {
            output,
            stdout_color: wanted(io::stdout().is_terminal()),
            stderr_color: wanted(io::stderr().is_terminal()),
        }
    }

    /// Colours text for stdout.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.stdout_color, tone, text)
    }

    /// Colours text for stderr.
    pub(crate) fn paint_err(&self, tone: Tone, text: &str) -> String {
        paint(self.stderr_color, tone, text)
    }

    /// Prints one value as YAML or JSON; text is YAML.
    ///
    /// # Errors
    ///
    /// Stdout cannot be written.
    pub(crate) fn value<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = match self.output {
            Output::Json => serde_json::to_string_pretty(value).map_err(|error| error.to_string()),
            Output::Text | Output::Yaml => yaml(value),
        };
        let text = text.map_err(|error| Failure::new(format!("cannot be printed: {error}"), ""))?;
        line(text.trim_end())
    }
}

/// A value as a YAML document.
///
/// # Errors
///
/// The serializer's message.
pub(crate) fn yaml<T: Serialize>(value: &T) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|error| error.to_string())
}

/// Prints a line on stdout at once. A reader that has gone away ends the program in silence, as it ends `cat`.
///
/// # Errors
///
/// Stdout cannot be written.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|error| Failure::new(format!("stdout: {error}"), "")),
    }
}

/// Prints a line on stderr; there is nowhere to tell that it failed.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn paint(color: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Good => "32",
        Tone::Warning => "33",
        Tone::Bad => "31",
        Tone::Faint => "2",
    };
    if color && !text.is_empty() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_as_told() {
        assert_eq!(
            Style::new(Output::Text, Color::Always).paint(Tone::Bad, "no"),
            "\x1b[31mno\x1b[0m"
        );
        assert_eq!(Style::new(Output::Text, Color::Never).paint(Tone::Bad, "no"), "no");
    }
}
