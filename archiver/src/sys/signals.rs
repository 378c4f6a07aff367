//! Signals that come to a whole terminal or unit, and so to a step as well as to who started it.

use libc::{SIGINT, SIGTERM, SIG_ERR, SIG_IGN};

use crate::error::{Code, Error, Result};

/// What ends the parent's group or unit in order ends the parent, which ends this process when it is done with it.
pub fn leave_signals_to_parent() -> Result<()> {
    for signal in [SIGTERM, SIGINT] {
        // SAFETY: no handler is set that could be called.
        if unsafe { libc::signal(signal, SIG_IGN) } == SIG_ERR {
            let error = std::io::Error::last_os_error();
            return Err(Error::new(Code::Unsupported, format!("signal {signal} cannot be ignored: {error}")));
        }
    }
    Ok(())
}
