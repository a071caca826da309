//! The requests of this VM that wait, or have waited, by their contexts: whatever ends the wait cannot reach a context itself.

use crate::host::HostError;
use crate::http::{Decided, Pending};
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    static PARKED: RefCell<HashMap<u32, Pending>> = RefCell::default();
}

pub(crate) fn insert(id: u32, pending: Pending) -> Result<(), HostError> {
    PARKED.with(|parked| {
        let mut parked = parked.try_borrow_mut().map_err(|_| HostError)?;
        parked.insert(id, pending);
        Ok(())
    })
}

pub(crate) fn take(id: u32) -> Option<Pending> {
    PARKED.with(|parked| parked.try_borrow_mut().ok()?.remove(&id))
}

pub(crate) fn remove(id: u32) {
    drop(take(id));
}

pub(crate) fn with<T>(id: u32, look: impl FnOnce(&Decided) -> T) -> Option<T> {
    PARKED.with(|parked| parked.try_borrow().ok()?.get(&id).map(|pending| look(&pending.decided)))
}
