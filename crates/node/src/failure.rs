//! How a command ends when it cannot do what it was asked: a message for a person, and the exit
//! code for a script. Messages say what happened, to what, and what to do.

use std::fmt;

/// A command's failure.
#[derive(Debug)]
pub struct Failure {
    /// The exit code of the process.
    pub code: u8,
    message: String,
}

impl Failure {
    /// Something that the user can put right: a flag, a file, a directory, a port.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// With an exit code of the command's own.
    pub fn with_code(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// The store failed (`EX_IOERR` of sysexits.h); what was acknowledged is safe.
    pub fn storage(message: impl fmt::Display) -> Self {
        Self { code: 74, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
