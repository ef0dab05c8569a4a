//! A pod's volumes as folders, and its mounts of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::spec::{PodSpec, Volume, bytes};
use super::{Places, Pod};
use crate::cluster::Objects;

/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// `mounts` of an OCI configuration.
///
/// # Errors
/// When an object or a folder of the node is not there.
pub(super) fn mounts(
    pod: &Pod,
    spec: &PodSpec,
    objects: &dyn Objects,
    places: &Places,
) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for mount in &spec.container().volume_mounts {
        let volume = spec.volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.with_context(|| format!("there is no volume {}", mount.name))?;
        let mut made =
            source(volume, pod, objects, places).with_context(|| format!("volume {}", mount.name))?;
        made["destination"] = json!(mount.mount_path);
        if let Some(options) = made["options"].as_array_mut() {
            options.push(json!(if mount.read_only { "ro" } else { "rw" }));
        }
        all.push(made);
    }
    if spec.automount_service_account_token {
        let account = places.account.context("a token is to be mounted, and there is no API server")?;
        let folder = places.pod.join("account");
        let files = [
            ("token", account.token.as_bytes().to_vec()),
            ("ca.crt", account.ca.as_bytes().to_vec()),
            ("namespace", pod.namespace.as_bytes().to_vec()),
        ];
        write(&folder, &files.map(|(name, bytes)| (name.to_owned(), bytes)), 0o644)?;
        let mut made = bind(&folder);
        made["destination"] = json!(ACCOUNT);
        made["options"] = json!(["rbind", "rprivate", "ro"]);
        all.push(made);
    }
    // What is further up has to be there before what is within it.
    all.sort_by_key(|mount| mount["destination"].as_str().map(|path| path.split('/').count()));
    Ok(all)
}

fn source(volume: &Volume, pod: &Pod, objects: &dyn Objects, places: &Places) -> Result<Value> {
    let find = |kind: &str, name: &str| {
        objects.find(kind, &pod.namespace, name).with_context(|| format!("there is no {kind} {name}"))
    };
    let folder = places.pod.join("volumes").join(&volume.name);
    if let Some(from) = &volume.config_map {
        let object = find("ConfigMap", &from.name)?;
        write(&folder, &files(&object, false)?, from.default_mode)?;
        return Ok(bind(&folder));
    }
    if let Some(from) = &volume.secret {
        let object = find("Secret", &from.secret_name)?;
        write(&folder, &files(&object, true)?, from.default_mode)?;
        return Ok(bind(&folder));
    }
    if let Some(empty) = &volume.empty_dir {
        if empty.medium == "Memory" {
            let size = empty.size_limit.as_deref().map_or(Ok(1 << 30), bytes)?;
            let options = ["nosuid", "nodev", "mode=777", &format!("size={size}")];
            return Ok(json!({"type": "tmpfs", "source": "tmpfs", "options": options}));
        }
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        return Ok(bind(&folder));
    }
    let host = volume.host_path.as_ref().context("a volume of no kind that is understood")?;
    let path = on_the_node(&host.path, places.node);
    match &*host.kind {
        // The launcher mounts the node's own cgroups there.
        "Directory" => ensure!(path.is_dir(), "the node has no folder {}", host.path),
        "DirectoryOrCreate" => fs::create_dir_all(&path)?,
        other => bail!("hostPath of type {other:?} is not understood"),
    }
    Ok(bind(&path))
}

/// A path of the node: below the node's own folder, but for what the kernel makes.
fn on_the_node(path: &str, node: &Path) -> PathBuf {
    let kernel = ["/sys", "/proc"].iter().any(|of| Path::new(path).starts_with(of));
    if kernel { PathBuf::from(path) } else { node.join(path.trim_start_matches('/')) }
}

fn bind(from: &Path) -> Value {
    json!({"type": "bind", "source": from, "options": ["rbind", "rprivate"]})
}

fn files(object: &Value, encoded: bool) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for (name, value) in object["data"].as_object().into_iter().flatten() {
        let text = value.as_str().with_context(|| format!("{name} is no text"))?;
        let bytes = if encoded { STANDARD.decode(text)? } else { text.as_bytes().to_vec() };
        files.push((name.clone(), bytes));
    }
    Ok(files)
}

/// Lays files out as the kubelet does, or replaces those that are there: a new folder, to which a link is swapped.
///
/// # Errors
/// What the system says.
pub(super) fn write(folder: &Path, files: &[(String, Vec<u8>)], mode: u32) -> Result<()> {
    fs::create_dir_all(folder)?;
    let old = fs::read_link(folder.join("..data")).ok();
    let number = (1..).find(|n| !folder.join(format!("..{n}")).exists()).unwrap_or(0);
    let made = PathBuf::from(format!("..{number}"));
    fs::create_dir(folder.join(&made))?;
    for (name, bytes) in files {
        let path = folder.join(&made).join(name);
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    symlink(&made, folder.join("..data_tmp"))?;
    fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
    for (name, _) in files {
        let link = folder.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link)?;
        }
    }
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !files.iter().any(|(known, _)| *known == name) {
            fs::remove_file(folder.join(name))?;
        }
    }
    if let Some(old) = old {
        fs::remove_dir_all(folder.join(old))?;
    }
    Ok(())
}

/// Brings the contents of ConfigMaps and Secrets to a running pod.
///
/// # Errors
/// When one is not there any more.
pub(super) fn refresh(pod: &Pod, spec: &PodSpec, objects: &dyn Objects, places: &Places) -> Result<()> {
    for volume in &spec.volumes {
        if volume.config_map.is_some() || volume.secret.is_some() {
            source(volume, pod, objects, places).with_context(|| format!("volume {}", volume.name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_swapped_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("volume");
        let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        write(&folder, &[file("a", "1"), file("b", "1")], 0o400).unwrap();
        write(&folder, &[file("a", "2"), file("c", "2")], 0o400).unwrap();
        assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "2");
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["..2", "..data", "a", "c"]);
        assert_eq!(fs::metadata(folder.join("a")).unwrap().permissions().mode() & 0o777, 0o400);
    }

    #[test]
    fn a_path_of_the_node_is_below_its_folder() {
        let node = Path::new("/tmp/node");
        assert_eq!(on_the_node("/var/lib/remora", node), Path::new("/tmp/node/var/lib/remora"));
        assert_eq!(on_the_node("/sys/fs/cgroup", node), Path::new("/sys/fs/cgroup"));
    }
}
