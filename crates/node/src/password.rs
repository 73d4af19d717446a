//! Where the password of a keystore comes from: a file, the environment, or the terminal. Never the
//! command line, which every user of the machine can read.

use crate::failure::Failure;
use crate::secret_file;
use std::io::IsTerminal;
use std::path::Path;
use zeroize::Zeroizing;

/// The variable that may hold the password itself.
pub const VARIABLE: &str = "LANDFALL_PASSWORD";
/// The longest file with a password.
const FILE_BYTES_MAX: usize = 4_096;

/// The password of an existing keystore, from the first of: the file, the variable, the terminal.
pub fn existing(file: Option<&Path>, keystore: &Path) -> Result<Zeroizing<String>, Failure> {
    match given(file)? {
        Some(password) => Ok(password),
        None => ask(&format!("Password of {}: ", keystore.display())),
    }
}

/// The password for a new keystore; the terminal asks twice.
pub fn new(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    let password = match given(file)? {
        Some(password) => password,
        None => {
            let once = ask("New password for the voting key: ")?;
            let again = ask("The same again: ")?;
            if once != again {
                return Err(Failure::refused("the passwords differ; nothing was written"));
            }
            once
        }
    };
    if password.is_empty() {
        return Err(Failure::refused("the password is empty; nothing was written"));
    }
    Ok(password)
}

fn given(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(file) = file {
        return from_file(file).map(Some);
    }
    match std::env::var(VARIABLE) {
        Ok(password) => Ok(Some(Zeroizing::new(password))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(Failure::refused(format!("{VARIABLE}: {error}"))),
    }
}

/// The first line of a file.
fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = secret_file::read(path, FILE_BYTES_MAX)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains('\n') {
        let path = path.display();
        return Err(Failure::refused(format!("{path}: holds several lines; one password is one")));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn ask(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::refused(format!(
            "no password: name a file (--password-file, or password_file in the configuration), \
             set {VARIABLE}, or start on a terminal"
        )));
    }
    rpassword::prompt_password(prompt)
        .map(Zeroizing::new)
        .map_err(|error| Failure::refused(format!("cannot read the password: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn file_holds_one_line_and_its_end_is_not_the_password() {
        let directory = TestDirectory::new("password");
        let path = directory.path().join("password");
        for (content, expected) in [("a b ", "a b "), ("x\n", "x"), ("x\r\n", "x"), ("", "")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(from_file(&path).unwrap().as_str(), expected);
        }
        std::fs::write(&path, "x\ny\n").unwrap();
        assert!(from_file(&path).unwrap_err().to_string().contains("several lines"));
        std::fs::write(&path, "\n").unwrap();
        assert!(new(Some(&path)).unwrap_err().to_string().contains("the password is empty"));
    }
}
