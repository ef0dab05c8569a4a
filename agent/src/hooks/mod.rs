//! Users' scripts: one thread and one QuickJS runtime for each, a bounded queue of items before it.
