//! What happened to a pod, as `onPodEvent` is told of it.

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PodEvent {
    /// It is new.
    Added,
    /// It changed.
    Modified,
    /// It is gone.
    Deleted,
}

impl PodEvent {
    /// Kubernetes' own word: the hook's first argument.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}
