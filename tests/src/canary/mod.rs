//! Secrets that cannot be missed: every one that a test gives away bears [`MARK`], and whatever a run of the tests lets out is
//! recorded and searched for it.
//!
//! With [`TRACE_DIR`] set, which `cargo xtask test` does, these write to files of that folder:
//! - `remora` itself, its whole log at trace level (each process);
//! - every test program that links this crate, what is logged inside it at trace level ([`subscriber`]);
//! - the fakes, what they were sent, but for what is to get in by;
//! - tests, what processes said on standard output and standard error ([`record`]).
//!
//! Where a secret belongs (`Authorization` at a fake, the path of a webhook) it is put down in the folder's [`RIGHTFUL`]: a run in
//! which nothing is found there has searched for nothing.

mod subscriber;
mod wire;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use subscriber::{heard, listen};
pub(crate) use wire::record_request;

/// In every secret of a test.
pub const MARK: &str = "hushhush";
/// The variable that says where to record.
pub const TRACE_DIR: &str = "REMORA_TRACE_DIR";
/// The folder, in that one, of secrets in the places where they belong.
pub const RIGHTFUL: &str = "rightful";
/// Most of a line that is shown, before and after what was found, in bytes.
const AROUND: usize = 120;

/// A place where the mark was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leak {
    /// The record.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// What stands around it.
    pub text: String,
}

/// What a search came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Records that were searched.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Where the mark should not be.
    pub leaks: Vec<Leak>,
    /// How often it was where it belongs.
    pub rightful: usize,
}

/// Records what was let out, if there is a folder for that. `kind` tells where it comes from.
pub fn record(kind: &str, text: &[u8]) {
    if let Some(folder) = folder() {
        write(&folder, kind, text);
    }
}

fn rightful(kind: &str, text: &[u8]) {
    if let Some(folder) = folder() {
        write(&folder.join(RIGHTFUL), kind, text);
    }
}

/// Where to record, if anywhere.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(TRACE_DIR).filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

/// Appends to this process's file of that kind. A record that cannot be kept is a test that proves nothing.
fn write(folder: &Path, kind: &str, text: &[u8]) {
    static ORDER: Mutex<()> = Mutex::new(());
    let _order = ORDER.lock().unwrap_or_else(PoisonError::into_inner);
    let path = folder.join(format!("{kind}-{}.txt", std::process::id()));
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(text).and_then(|()| file.write_all(b"\n")));
    if let Err(error) = written {
        panic!("{}: {error}", path.display());
    }
}

/// Searches a folder of records.
///
/// # Errors
/// When it cannot be read.
pub fn search(folder: &Path) -> io::Result<Found> {
    let forms = forms();
    let mut found = Found::default();
    for path in files(folder)? {
        let mut bytes = Vec::new();
        File::open(&path)?.read_to_end(&mut bytes)?;
        found.files += 1;
        found.bytes += bytes.len() as u64;
        leaks(&path, &bytes, &forms, &mut found.leaks);
    }
    let mut belonging = Vec::new();
    for path in files(&folder.join(RIGHTFUL)).unwrap_or_default() {
        leaks(&path, &fs::read(&path)?, &forms, &mut belonging);
    }
    found.rightful = belonging.len();
    Ok(found)
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

fn leaks(path: &Path, bytes: &[u8], forms: &[Vec<u8>], into: &mut Vec<Leak>) {
    for (number, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let at = forms.iter().find_map(|form| position(line, form));
        if let Some(at) = at {
            let part = &line[at.saturating_sub(AROUND)..line.len().min(at + AROUND)];
            let text = String::from_utf8_lossy(part).into_owned();
            into.push(Leak { file: path.to_owned(), line: number + 1, text });
        }
    }
}

fn position(line: &[u8], form: &[u8]) -> Option<usize> {
    line.windows(form.len()).position(|window| window == form)
}

/// The mark as it may be written: as it is, in base64 wherever it begins, in hexadecimal, as a list of bytes.
fn forms() -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let mut forms = vec![MARK.as_bytes().to_vec()];
    for before in 0..3 {
        let text = format!("{}{MARK}", "x".repeat(before));
        let coded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
        // Without the characters that the bytes before and after it have a part in.
        let (from, to) = ((before * 8).div_ceil(6), (before + MARK.len()) * 8 / 6);
        forms.push(coded.as_bytes()[from..to].to_vec());
    }
    let hex: String = MARK.bytes().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = MARK.bytes().map(|byte| byte.to_string()).collect();
    forms.extend([hex.clone().into_bytes(), hex.to_uppercase().into_bytes(), list.join(", ").into_bytes()]);
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_found_in_whatever_form() {
        use base64::Engine as _;
        let dir = tempfile::tempdir().unwrap();
        let secret = format!("xoxb-1-{MARK}-2");
        let coded =
            |before: &str| base64::engine::general_purpose::STANDARD.encode(format!("{before}{secret}:x"));
        let hex: String = secret.bytes().map(|byte| format!("{byte:02X}")).collect();
        for (number, line) in [
            format!("TRACE reqwest: Authorization: Bearer {secret}"),
            coded(""),
            coded("a"),
            coded("ab"),
            hex,
            format!("{:?}", secret.as_bytes()),
            format!("https://x/services/{secret}"),
        ]
        .iter()
        .enumerate()
        {
            let path = dir.path().join(format!("{number}.log"));
            fs::write(&path, format!("fine\n{line}\nfine")).unwrap();
            let found = search(dir.path()).unwrap();
            assert_eq!((found.files, found.rightful), (number + 1, 0));
            assert_eq!(found.leaks.len(), number + 1, "{line}");
            assert_eq!(found.leaks[number].line, 2);
        }
    }

    #[test]
    fn nothing_is_found_where_there_is_nothing_but_what_belongs() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(RIGHTFUL)).unwrap();
        write(dir.path(), "agent", b"delivered; hush, hush; SHVzaA==");
        write(&dir.path().join(RIGHTFUL), "fake", format!("Bearer {MARK}").as_bytes());
        let found = search(dir.path()).unwrap();
        assert_eq!((found.files, found.rightful, found.leaks.len()), (1, 1, 0));
        assert!(search(&dir.path().join("nowhere")).is_err());
    }
}
