//! Each route, over real connections.
