//! Promises that were rejected in a call and that nobody handles: an `async` hook throws this way.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;

use rquickjs::{Runtime, Value};

use super::errors::Thrown;

/// Kept of one call.
const MOST: usize = 16;

#[derive(Default)]
pub(crate) struct Rejections(RefCell<Vec<(u64, Thrown)>>);

impl Rejections {
    /// Has QuickJS tell of rejected promises.
    pub(crate) fn watch(runtime: &Runtime) -> Rc<Self> {
        let this = Rc::new(Self::default());
        let rejections = Rc::clone(&this);
        runtime.set_host_promise_rejection_tracker(Some(Box::new(move |ctx, promise, reason, handled| {
            let promise = identity(&promise);
            if handled {
                rejections.forget(promise);
            } else if rejections.has_room() {
                // Describing runs getters, which may reject promises in their turn: no borrow is held meanwhile.
                let thrown = Thrown::of_value(&ctx, &reason);
                drop(ctx.catch());
                rejections.0.borrow_mut().push((promise, thrown));
            }
        })));
        this
    }

    /// The first rejection that stayed unhandled; forgets all.
    pub(crate) fn take(&self) -> Option<Thrown> {
        if self.0.borrow().is_empty() {
            return None;
        }
        self.0.take().into_iter().next().map(|(_, thrown)| thrown)
    }

    /// Somebody handles it after all.
    fn forget(&self, promise: u64) {
        self.0.borrow_mut().retain(|(known, _)| *known != promise);
    }

    fn has_room(&self) -> bool {
        self.0.borrow().len() < MOST
    }
}

/// A number that tells a live object from others.
fn identity(value: &Value<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
