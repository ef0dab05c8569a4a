//! The log of a test program itself: everything at trace level, by our code and by libraries, to a file. It begins before
//! `main`, so that no test has to ask for it and none can forget.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::util::SubscriberInitExt as _;

use super::folder;

/// What was logged since somebody wanted to read it.
static HEARD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

// SAFETY: nothing else has this name in this section, and a function without arguments that returns is what the C library
// calls from there, once, before `main` and before there is a second thread.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = begin;

extern "C" fn begin() {
    let Some(folder) = folder() else { return };
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(|path| path.file_name()?.to_str()).unwrap_or("test").to_owned();
    match File::create(folder.join(format!("in-{name}-{}.log", std::process::id()))) {
        Ok(file) => install(Some(file)),
        Err(error) => eprintln!("{}: {error}", folder.display()),
    }
}

/// Everything at trace level, from now on; `init` also takes the lines of libraries that use the log crate.
fn install(file: Option<File>) {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    // Err: there is one already, which then is this one.
    let _ = log.with_writer(Mutex::new(Tee(file))).finish().try_init();
}

struct Tee(Option<File>);

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(heard) = heard_so_far().as_mut() {
            heard.extend_from_slice(bytes);
        }
        if let Some(file) = &mut self.0 {
            file.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn heard_so_far() -> MutexGuard<'static, Option<Vec<u8>>> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what this program logs from now on, at trace level, for [`heard`].
pub fn listen() {
    heard_so_far().get_or_insert_default();
    install(None);
}

/// What was logged since [`listen`].
#[must_use]
pub fn heard() -> String {
    let bytes = heard_so_far().clone().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
