//! `import` for scripts: files of the script's own folder, and nothing else.
//!
//! A module is named `./NAME` and is called NAME in positions. A symbolic link may lead anywhere inside the folder
//! (ConfigMap volumes are made of such links), never out of it.

use std::path::PathBuf;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Module, Result};

use super::source::{Source, read_text};
use super::stamp::{Loaded, Stamp};

/// Resolves and loads the modules of one folder.
#[derive(Clone, Debug)]
pub(crate) struct FolderModules {
    folder: PathBuf,
    largest: u64,
    /// What was loaded, or looked for: whoever watches the script's file watches these too.
    loaded: Loaded,
}

impl FolderModules {
    pub(crate) fn new(source: &Source, largest: u64) -> Self {
        Self { folder: source.folder.clone(), largest, loaded: source.modules.clone() }
    }

    fn source(&self, name: &str) -> std::result::Result<String, String> {
        // Before it is read: a change meanwhile is one that the watcher sees.
        self.loaded.note(self.folder.join(name), Stamp::of(&self.folder.join(name)));
        let folder = self.folder.canonicalize().map_err(|error| format!("the script's folder: {error}"))?;
        let path = folder.join(name).canonicalize().map_err(|error| error.to_string())?;
        if !path.starts_with(&folder) {
            return Err("leads out of the script's folder".to_owned());
        }
        read_text(&path, self.largest)
    }
}

impl Resolver for FolderModules {
    fn resolve<'js>(
        &mut self,
        _ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        match name.strip_prefix("./") {
            Some(file) if !file.is_empty() && !file.contains(['/', '\\', '\0']) && file != ".." => {
                Ok(file.to_owned())
            }
            _ => Err(Error::new_resolving_message(
                base,
                name,
                "a module is a file beside the script, written \"./name.js\"",
            )),
        }
    }
}

impl Loader for FolderModules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let source = self.source(name).map_err(|message| Error::new_loading_message(name, message))?;
        Module::declare(ctx.clone(), name, source)
    }
}
