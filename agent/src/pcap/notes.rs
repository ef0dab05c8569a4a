//! What is known about streams and addresses beside their packets: alerts about a stream, names of pods and services.
//!
//! Lines of JSON in `notes.jsonl`, appended whole; the file before the last is `notes.old.jsonl`. Invariants: both together
//! are within twice [`MOST`]; a line that makes no sense is passed over; text is cut to [`LONGEST`].

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use agent_core::item::StreamId;
use serde_json::{Value, json};

use super::lock;

/// The file is put aside at this size, in bytes.
const MOST: u64 = 8 << 20;
/// Longest text of a note, in bytes.
const LONGEST: usize = 1024;
/// Addresses whose names are remembered, so that each is written once.
const ADDRESSES: usize = 1 << 16;
/// Notes of one stream that are shown.
const OF_ONE: usize = 16;
const FILE: &str = "notes.jsonl";
const OLD: &str = "notes.old.jsonl";

/// Writes notes.
pub(super) struct NoteBook {
    dir: PathBuf,
    most: u64,
    told: Mutex<HashMap<IpAddr, String>>,
}

impl NoteBook {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, most: MOST, told: Mutex::default() }
    }

    /// Notes something about a stream.
    pub(super) fn note(&self, stream: StreamId, text: &str) -> io::Result<()> {
        let _one_at_a_time = lock(&self.told);
        self.append(&json!({ "stream": stream.0, "text": cut(text) }))
    }

    /// Notes what an address is called, unless that was noted last.
    pub(super) fn name(&self, ip: IpAddr, name: &str) -> io::Result<()> {
        let mut told = lock(&self.told);
        if told.get(&ip).is_some_and(|known| known == name) {
            return Ok(());
        }
        if told.len() >= ADDRESSES {
            told.clear();
        }
        told.insert(ip, name.to_owned());
        self.append(&json!({ "ip": ip.to_string(), "name": cut(name) }))
    }

    fn append(&self, line: &Value) -> io::Result<()> {
        let path = self.dir.join(FILE);
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        if file.metadata()?.len() >= self.most {
            fs::rename(&path, self.dir.join(OLD))?;
            file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        }
        file.write_all(format!("{line}\n").as_bytes())
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text)
}

/// All notes of a store.
#[derive(Default)]
pub(super) struct Notes {
    streams: HashMap<StreamId, Vec<String>>,
    names: BTreeMap<IpAddr, String>,
}

impl Notes {
    /// Reads them; that there are none is no error.
    pub(super) fn read(dir: &Path) -> io::Result<Self> {
        let mut notes = Self::default();
        for name in [OLD, FILE] {
            match fs::read(dir.join(name)) {
                Ok(text) => text.split(|&b| b == b'\n').for_each(|line| notes.take(line)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(notes)
    }

    fn take(&mut self, line: &[u8]) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return };
        if let (Some(stream), Some(text)) = (line["stream"].as_u64(), line["text"].as_str()) {
            let of_stream = self.streams.entry(StreamId(stream)).or_default();
            if of_stream.len() < OF_ONE {
                of_stream.push(text.to_owned());
            }
        } else if let (Some(Ok(ip)), Some(name)) =
            (line["ip"].as_str().map(str::parse), line["name"].as_str())
        {
            self.names.insert(ip, name.to_owned());
        }
    }

    /// What was noted about a stream, oldest first.
    pub(super) fn of(&self, stream: StreamId) -> &[String] {
        self.streams.get(&stream).map_or(&[], Vec::as_slice)
    }

    /// What an address was called last.
    pub(super) fn name(&self, ip: IpAddr) -> Option<&str> {
        self.names.get(&ip).map(String::as_str)
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.names.iter().map(|(&ip, name)| (ip, name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_found_again_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let book = NoteBook { most: 4096, ..NoteBook::new(dir.path().to_owned()) };
        let ip = "10.0.0.1".parse().unwrap();
        for _ in 0..100 {
            book.name(ip, "shop").unwrap();
        }
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap().lines().count(), 1, "told once");
        book.name(ip, "shop-2").unwrap();
        for n in 0..20 {
            book.note(StreamId(7), &format!("alert {n}")).unwrap();
        }
        fs::write(dir.path().join(OLD), "no JSON\n{\"stream\":8,\"text\":\"old\"}\n[1]\n").unwrap();
        let notes = Notes::read(dir.path()).unwrap();
        assert_eq!((notes.name(ip), notes.of(StreamId(7)).len()), (Some("shop-2"), OF_ONE));
        assert_eq!(notes.of(StreamId(8)), ["old"]);
        for n in 0..200 {
            book.note(StreamId(n), &"é".repeat(5000)).unwrap();
        }
        for name in [FILE, OLD] {
            assert!(fs::metadata(dir.path().join(name)).unwrap().len() < 4096 + 2048);
        }
        assert_eq!(Notes::read(dir.path()).unwrap().of(StreamId(199)), ["é".repeat(512)]);
    }
}
