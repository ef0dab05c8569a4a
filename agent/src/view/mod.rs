//! Views of an item for the outside: JSON now, JavaScript through it.
