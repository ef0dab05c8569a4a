//! Views of an item for the outside: the contract's JSON, from which scripts get theirs, and a line for a person.

mod escape;
pub(crate) mod head;
mod item;
mod item_text;
mod json;
mod kept;
mod message;
mod out;
mod page;
mod redact;
mod spell;
mod stream;
#[cfg(test)]
mod tests;
mod text;

pub use item::ItemView;
pub(crate) use item::Part;
pub use item_text::Lines;
pub(crate) use message::MOST;
pub(crate) use out::{Fields, Key, Out, readable};
pub use page::Page;
pub use redact::Redaction;
pub use stream::stream_json;
pub use text::text_line;
