//! [`Mode`]: a terminal that gives each key as it is typed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::termios::{
    InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};

/// A terminal in another mode, for as long as it exists.
pub(in crate::talk) struct Mode {
    terminal: OwnedFd,
    before: Termios,
}

impl Mode {
    /// Keys come one by one and are not shown; those that send signals still do.
    pub(in crate::talk) fn keys(terminal: impl AsFd) -> io::Result<Self> {
        let mode = Self {
            before: tcgetattr(&terminal)?,
            terminal: terminal.as_fd().try_clone_to_owned()?,
        };
        mode.set()?;
        Ok(mode)
    }

    /// Sets it, perhaps once more: a shell may have changed it while this process was stopped.
    pub(in crate::talk) fn set(&self) -> io::Result<()> {
        let mut keys = self.before.clone();
        keys.local_flags &= !(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::IEXTEN);
        keys.input_flags &= !(InputFlags::ICRNL | InputFlags::INLCR | InputFlags::ISTRIP);
        keys.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        keys.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        Ok(tcsetattr(&self.terminal, SetArg::TCSANOW, &keys)?)
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        // It fails where the terminal has gone.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}
