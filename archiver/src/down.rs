//! For tests: walls that are down in this thread, so that each of the others can be seen alone.

use std::cell::Cell;

/// The gate of data segments; clean names, and `openat2` that leads nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Down {
    pub gate: bool,
    pub beneath: bool,
}

thread_local! {
    static NOW: Cell<Down> = const { Cell::new(Down { gate: false, beneath: false }) };
}

/// Take them down, for the rest of this thread.
pub fn take(down: Down) {
    NOW.set(down);
}

/// Which are down.
pub fn now() -> Down {
    NOW.get()
}
