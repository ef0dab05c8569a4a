//! `file.tar`: a folder as a .tar.gz, in the order of names, without links.

use std::io::{self, Read as _, Write};
use std::path::Path;

use cap_std::fs::Dir;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::folder::walk;

/// Writes the folder `inside` of `root` to `out`, leaving out the archive itself.
pub(super) fn write(root: &Dir, inside: &Path, archive: &Path, out: impl Write) -> io::Result<()> {
    let mut entries = walk(root, inside)?;
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut builder = tar::Builder::new(GzEncoder::new(out, Compression::fast()));
    for (path, metadata) in entries.iter().filter(|(path, _)| path != archive) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if metadata.is_dir() { 0o755 } else { 0o644 });
        let modified = metadata.modified().ok().map(cap_std::time::SystemTime::into_std);
        let age = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        header.set_mtime(age.map_or(0, |age| age.as_secs()));
        let name = path.strip_prefix(inside).unwrap_or(path);
        if metadata.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            builder.append_data(&mut header, name, io::empty())?;
        } else if metadata.is_file() {
            header.set_size(metadata.len());
            let file = root.open(path)?;
            builder.append_data(&mut header, name, file.take(metadata.len()))?;
        }
    }
    builder.into_inner()?.finish()?.flush()
}
