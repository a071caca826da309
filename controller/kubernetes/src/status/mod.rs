//! Statuses: what an object's is to be, and how it gets there.

mod entries;
mod writer;

pub use self::writer::{Outcome, Writer};

/// The field manager of everything that is applied: one of its own for each controller's name.
pub(crate) fn field_manager(controller: &str) -> String {
    // An API server takes 128 printable characters.
    controller.chars().filter(|c| !c.is_control()).take(128).collect()
}
