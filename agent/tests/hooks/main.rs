//! The script runtime from outside: scripts in files, items in, log lines and deliveries out.

mod files;
mod helpers;
mod library;
mod limits;
mod modules;
mod rig;
mod webhooks;
