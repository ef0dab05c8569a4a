//! `file`: the script's data folder from JavaScript.

use super::folder::FolderError;
use super::{Call, HelperError, HelperResult, Host, Member};

pub(super) const MEMBERS: &[Member] = &[
    ("append", "file.append", |host, call| write(host, call, true)),
    ("copy", "file.copy", copy),
    ("delete", "file.delete", delete),
    ("mkdir", "file.mkdir", mkdir),
    ("mkdirTemp", "file.mkdirTemp", mkdir_temp),
    ("move", "file.move", rename),
    ("read", "file.read", read),
    ("tar", "file.tar", tar),
    ("temp", "file.temp", temp),
    ("write", "file.write", |host, call| write(host, call, false)),
];

fn write<'js>(host: &Host, call: &Call<'js>, append: bool) -> HelperResult<'js> {
    let (path, text) = (call.text(0, "path")?, call.text(1, "text")?);
    host.folder.write(&path, &text, append).map_err(|error| call.failed("path", error))?;
    call.done()
}

fn read<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let path = call.text(0, "path")?;
    let longest = host.limits().argument as u64;
    call.returns(host.folder.read(&path, longest).map_err(|error| call.failed("path", error))?)
}

fn rename<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (old, new) = (call.text(0, "old")?, call.text(1, "new")?);
    host.folder.rename(&old, &new).map_err(|error| call.failed("old, new", error))?;
    call.done()
}

fn copy<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (src, dst) = (call.text(0, "src")?, call.text(1, "dst")?);
    host.folder.copy(&src, &dst).map_err(|error| call.failed("src, dst", error))?;
    call.done()
}

fn delete<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    host.folder.delete(&call.text(0, "path")?).map_err(|error| call.failed("path", error))?;
    call.done()
}

fn mkdir<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    host.folder.make_dir(&call.text(0, "path")?).map_err(|error| call.failed("path", error))?;
    call.done()
}

fn mkdir_temp<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let name = call.optional_text(0, "name")?.filter(|name| !name.is_empty());
    let dir = call.optional_text(1, "dir")?.unwrap_or_default();
    let made = host.folder.temp_dir(name.as_deref().unwrap_or("dir"), &dir);
    returns_path(call, made, "name, dir")
}

fn temp<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (name, dir, extension) = (call.text(0, "name")?, call.text(1, "dir")?, call.text(2, "extension")?);
    let extension = match extension.trim_start_matches('.') {
        "" => "txt",
        extension => extension,
    };
    returns_path(call, host.folder.temp(&name, &dir, extension), "name, dir, extension")
}

fn tar<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let packed = host.folder.pack(&call.text(0, "dir")?, &|| host.clock.poll());
    returns_path(call, packed, "dir")
}

fn returns_path<'js>(
    call: &Call<'js>,
    path: Result<std::path::PathBuf, FolderError>,
    argument: &str,
) -> HelperResult<'js> {
    let path = path.map_err(|error| call.failed(argument, error))?;
    let text =
        path.to_str().ok_or_else(|| HelperError::Failed(format!("{argument}: the path is not UTF-8")))?;
    call.returns(text)
}
