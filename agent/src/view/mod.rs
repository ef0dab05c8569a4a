//! Views of an item for the outside: the contract's JSON, from which scripts get theirs, and a line for a person.

mod escape;
pub(crate) mod head;
mod item;
mod item_text;
mod json;
mod message;
mod out;
mod redact;
mod stream;
mod text;

pub use item::ItemView;
pub(crate) use item::Part;
pub(crate) use message::MOST;
pub(crate) use out::{Fields, Key, Out, readable};
pub use redact::Redaction;
pub use stream::stream_json;
pub use text::text_line;
