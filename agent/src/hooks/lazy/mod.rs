//! Items as scripts see them: objects whose values are made when they are first looked at.
//!
//! ```text
//! data ──────────► Kept ──► Arc<Captured>      an item, shared with queues and other scripts, never written
//!   │ .response      ▲
//!   └► object ───────┘                         each object with fields of its own is one `class::Object`
//! ```
//!
//! Invariants:
//! - What the fields are is said by `view` alone; nothing here names one.
//! - A script sees plain objects. Values are made once, so that `data.request === data.request`; the first write,
//!   delete or definition makes all fields of that object, which is a plain one from then on.
//! - A body is decoded when its text, size or the like is first looked at, once for all of its fields; never for an item of which
//!   nobody looks at them.
//! - No code of a script runs while a value is made.
//! - An item that is still referred to after its call counts in the script's memory limit ([`Kept::settle`]), and so
//!   does what its objects remember.

mod build;
mod class;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rquickjs::{Ctx, Value};

use crate::captured::Captured;
use crate::view::{Fields, ItemView, Part};

use super::heap::Meter;
use build::{Every, Find, Listed, Made, Picked};

/// What the lazy objects of one runtime share.
pub(crate) struct Lazies {
    view: Arc<ItemView>,
    meter: Rc<Meter>,
    class: class::Class,
    /// Names of fields that were asked for, sorted by atom. As many as the description has.
    names: RefCell<Vec<(class::Atom, &'static str)>>,
}

/// An item that a script can still reach.
pub(crate) struct Kept {
    captured: Arc<Captured>,
    lazies: Rc<Lazies>,
    /// What it adds to the script's memory, in bytes.
    charged: Cell<usize>,
}

impl Lazies {
    /// Readies a context for items that are seen as `view` says.
    ///
    /// # Errors
    /// When the heap has no room.
    pub(crate) fn new(ctx: &Ctx<'_>, view: &Arc<ItemView>, meter: &Rc<Meter>) -> rquickjs::Result<Rc<Self>> {
        let class = class::Class::register(ctx)?;
        Ok(Rc::new(Self {
            view: Arc::clone(view),
            meter: Rc::clone(meter),
            class,
            names: RefCell::default(),
        }))
    }

    /// An item to make objects of.
    pub(crate) fn keep(self: &Rc<Self>, captured: &Arc<Captured>) -> Rc<Kept> {
        Rc::new(Kept { captured: Arc::clone(captured), lazies: Rc::clone(self), charged: Cell::new(0) })
    }

    /// The name that an atom stands for, if the description has it.
    fn known(&self, atom: class::Atom) -> Option<&'static str> {
        let names = self.names.borrow();
        names.binary_search_by_key(&atom, |known| known.0).ok().map(|at| names[at].1)
    }

    /// Remembers what an atom stands for; whether that was new.
    fn learn(&self, atom: class::Atom, name: &'static str) -> bool {
        let mut names = self.names.borrow_mut();
        match names.binary_search_by_key(&atom, |known| known.0) {
            Ok(_) => false,
            Err(at) => {
                names.insert(at, (atom, name));
                true
            }
        }
    }
}

impl Kept {
    /// The item's object.
    ///
    /// # Errors
    /// When the heap has no room.
    pub(crate) fn object<'js>(self: &Rc<Self>, ctx: &Ctx<'js>) -> rquickjs::Result<Value<'js>> {
        class::object(ctx, self, Part::Item)
    }

    /// After a call: if the script kept something of the item, the item counts in its memory from now on, and this is
    /// true.
    pub(crate) fn settle(self: &Rc<Self>) -> bool {
        let is_kept = Rc::strong_count(self) > 1;
        if is_kept && self.charged.get() == 0 {
            let bytes = self.captured.memory();
            self.charged.set(bytes);
            self.lazies.meter.took(bytes);
        }
        is_kept
    }

    fn fields(&self, part: Part, fields: &mut impl Fields) {
        if let Some(shown) = self.lazies.view.show(&self.captured) {
            shown.fields(part, fields);
        }
    }

    /// A field's name, if the part has a field of that name.
    fn find(&self, part: Part, name: &str) -> Option<&'static str> {
        let mut find = Find { name, found: None };
        self.fields(part, &mut find);
        find.found
    }

    fn names(&self, part: Part) -> Vec<&'static str> {
        let mut listed = Listed::default();
        self.fields(part, &mut listed);
        listed.0
    }

    /// Whether a field is one of several of its part that are best made at once.
    fn is_of_many(&self, part: Part, name: &str) -> bool {
        let shown = self.lazies.view.show(&self.captured);
        shown.is_some_and(|shown| shown.decodes(part, name)) && self.find(part, name).is_some()
    }

    /// The values of all fields.
    fn values<'js>(
        self: &Rc<Self>,
        ctx: &Ctx<'js>,
        part: Part,
    ) -> rquickjs::Result<Vec<(&'static str, Value<'js>)>> {
        let mut every = Every::new(Made::new(ctx, self));
        self.fields(part, &mut every);
        every.finish()
    }

    /// The value of one field. `None`: the part has no such field.
    fn value<'js>(
        self: &Rc<Self>,
        ctx: &Ctx<'js>,
        part: Part,
        name: &str,
    ) -> rquickjs::Result<Option<Value<'js>>> {
        let mut picked = Picked { name, made: Made::new(ctx, self), there: false };
        self.fields(part, &mut picked);
        if picked.there { picked.made.finish().map(Some) } else { Ok(None) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.lazies.meter.gave_back(self.charged.get());
    }
}
