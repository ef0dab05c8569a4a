//! The QuickJS class of lazy objects: the `unsafe` part of them.
//!
//! A class with exotic methods: QuickJS asks these for whatever it does not find among an object's ordinary properties,
//! and no ordinary property is ever put there. An object is in one of two states. [`State::Lazy`]: it answers from the
//! item, and remembers the values that it gave out. [`State::Plain`]: all is left to a plain object behind it, which
//! has every property that this one ever had; QuickJS has no hook for `Object.preventExtensions`, so that is passed on
//! before the next definition.
//!
//! Rules that the `SAFETY` arguments rest on:
//! 1. Only [`object`] makes objects of the class; their opaque pointer is a leaked `Box<Object>` until the finalizer.
//! 2. Values in a `State` are owned: duplicated when put in, freed by the finalizer, told to the collector by `mark`.
//! 3. No borrow of a `State` is held while QuickJS may allocate, for that may collect and so call `mark`.
//! 4. A method's object is alive while the method runs, for its caller holds it, and no code of a script runs in it.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;

use rquickjs::{Ctx, Error, Exception, Function, Object as JsObject, Result, Value, qjs};

use crate::view::Part;

use super::build::plain;
use super::{Kept, Lazies};

pub(super) type Atom = qjs::JSAtom;

const ALL: c_int = qjs::JS_PROP_C_W_E as c_int;

/// A lazy object's own data.
struct Object {
    kept: Rc<Kept>,
    part: Part,
    state: RefCell<State>,
    /// Bytes counted in the script's memory.
    charged: Cell<usize>,
}

enum State {
    /// Values that were given out, or made together with one that was.
    Lazy(Vec<(Atom, qjs::JSValue)>),
    /// Every property, with all that was done to it.
    Plain(qjs::JSValue),
}

/// The class in one runtime.
#[derive(Clone, Copy)]
pub(super) struct Class(qjs::JSClassID);

static METHODS: qjs::JSClassExoticMethods = qjs::JSClassExoticMethods {
    get_own_property: Some(get_own_property),
    get_own_property_names: Some(get_own_property_names),
    delete_property: Some(delete_property),
    define_own_property: Some(define_own_property),
    has_property: None,
    get_property: None,
    set_property: None,
};

impl Class {
    /// Makes the class known to a context and its runtime. Objects of it have `Object.prototype`.
    pub(super) fn register(ctx: &Ctx<'_>) -> Result<Self> {
        let prototype = JsObject::new(ctx.clone())?.get_prototype();
        let definition = qjs::JSClassDef {
            class_name: c"Object".as_ptr(),
            finalizer: Some(finalize),
            gc_mark: Some(mark),
            call: None,
            exotic: (&raw const METHODS).cast_mut(),
        };
        let mut id = qjs::JS_INVALID_CLASS_ID;
        let raw = ctx.as_raw().as_ptr();
        // SAFETY: `ctx` is locked and alive. QuickJS copies the definition but for the methods, which are static and
        // which it only reads. The prototype is duplicated for JS_SetClassProto, which takes it over.
        unsafe {
            let runtime = qjs::JS_GetRuntime(raw);
            qjs::JS_NewClassID(runtime, &raw mut id);
            if qjs::JS_NewClass(runtime, id, &raw const definition) != 0 {
                return Err(Error::Allocation);
            }
            let prototype = prototype.map_or(qjs::JS_NULL, |object| qjs::JS_DupValue(raw, object.as_raw()));
            qjs::JS_SetClassProto(raw, id, prototype);
        }
        Ok(Self(id))
    }
}

/// A lazy object for a part of an item.
///
/// # Errors
/// When the heap has no room.
pub(super) fn object<'js>(ctx: &Ctx<'js>, kept: &Rc<Kept>, part: Part) -> Result<Value<'js>> {
    let raw = ctx.as_raw().as_ptr();
    // SAFETY: `ctx` is locked and alive, and the class was registered with it. The value is owned by us until `Value`
    // takes it over. The box is given to the object once, before anything can see the object (rule 1).
    unsafe {
        let value = qjs::JS_NewObjectClass(raw, kept.lazies.class.0);
        if qjs::JS_IsException(value) {
            return Err(Error::Exception);
        }
        let object = Object {
            kept: Rc::clone(kept),
            part,
            state: RefCell::new(State::Lazy(Vec::new())),
            charged: Cell::new(0),
        };
        object.charge(size_of::<Object>());
        qjs::JS_SetOpaque(value, Box::into_raw(Box::new(object)).cast());
        Ok(Value::from_raw(ctx.clone(), value))
    }
}

/// Whether an object itself, not its prototype, has a property.
pub(super) fn has_own(object: &JsObject<'_>, name: &str) -> Result<bool> {
    let ctx = object.ctx().as_raw().as_ptr();
    // SAFETY: `object` is alive and belongs to `ctx`; the atom is freed once; with null nothing is written.
    let there = unsafe {
        let atom = qjs::JS_NewAtomLen(ctx, name.as_ptr().cast(), name.len() as qjs::size_t);
        let there = qjs::JS_GetOwnProperty(ctx, null_mut(), object.as_raw(), atom);
        qjs::JS_FreeAtom(ctx, atom);
        there
    };
    if there < 0 { Err(Error::Exception) } else { Ok(there > 0) }
}

impl Object {
    fn charge(&self, bytes: usize) {
        self.charged.set(self.charged.get() + bytes);
        self.lazies().meter.took(bytes);
    }

    fn lazies(&self) -> &Lazies {
        &self.kept.lazies
    }

    /// The plain object behind this one, if there is one. It lives as long as this one.
    fn plain(&self) -> Option<qjs::JSValue> {
        match &*self.state.borrow() {
            State::Plain(object) => Some(*object),
            State::Lazy(_) => None,
        }
    }

    /// A value that was given out before.
    fn remembered<'js>(&self, ctx: &Ctx<'js>, atom: Atom) -> Option<Value<'js>> {
        match &*self.state.borrow() {
            State::Lazy(values) => values.iter().find(|(known, _)| *known == atom).map(|&(_, value)| {
                // SAFETY: the state owns the value; duplicating only counts it up, and `Value` owns the duplicate.
                unsafe { Value::from_raw(ctx.clone(), qjs::JS_DupValue(ctx.as_raw().as_ptr(), value)) }
            }),
            State::Plain(_) => None,
        }
    }

    /// Remembers what has an identity, or costs something to make again.
    fn remember(&self, atom: Atom, value: &Value<'_>) {
        if let State::Lazy(values) = &mut *self.state.borrow_mut() {
            let before = values.capacity();
            // SAFETY: duplicating only counts up; the state owns the duplicate (rule 2).
            values.push((atom, unsafe { qjs::JS_DupValue(value.ctx().as_raw().as_ptr(), value.as_raw()) }));
            self.charge((values.capacity() - before) * size_of::<(Atom, qjs::JSValue)>());
        }
    }

    /// The field that an atom names.
    fn field(&self, ctx: &Ctx<'_>, atom: Atom) -> Result<Option<&'static str>> {
        if let Some(name) = self.lazies().known(atom) {
            return Ok(Some(name));
        }
        let raw = ctx.as_raw().as_ptr();
        // SAFETY: the caller holds the atom. The value and the text are freed once, after their last use.
        unsafe {
            let value = qjs::JS_AtomToValue(raw, atom);
            let symbol = qjs::JS_IsSymbol(value);
            qjs::JS_FreeValue(raw, value);
            if symbol {
                return Ok(None);
            }
            let mut length = 0;
            let text = qjs::JS_AtomToCStringLen(raw, &raw mut length, atom);
            if text.is_null() {
                return Err(Error::Exception);
            }
            let bytes = std::slice::from_raw_parts(text.cast::<u8>(), length as usize);
            let found = std::str::from_utf8(bytes).ok().and_then(|name| self.kept.find(self.part, name));
            qjs::JS_FreeCString(raw, text);
            if let Some(name) = found {
                self.learn(ctx, qjs::JS_DupAtom(raw, atom), name);
            }
            Ok(found)
        }
    }

    /// Takes over an atom that is held, so that its number never becomes another name's. The runtime frees it at its end.
    fn learn(&self, ctx: &Ctx<'_>, atom: Atom, name: &'static str) {
        if !self.lazies().learn(atom, name) {
            // SAFETY: it was held once more for us, and is held by those that are known already.
            unsafe { qjs::JS_FreeAtom(ctx.as_raw().as_ptr(), atom) };
        }
    }

    /// A property of a lazy object.
    fn get<'js>(&self, ctx: &Ctx<'js>, atom: Atom) -> Result<Option<Value<'js>>> {
        if let Some(value) = self.remembered(ctx, atom) {
            return Ok(Some(value));
        }
        let Some(name) = self.field(ctx, atom)? else { return Ok(None) };
        if self.kept.is_of_many(self.part, name) {
            self.remember_all(ctx)?;
            return Ok(self.remembered(ctx, atom));
        }
        let value = self.kept.value(ctx, self.part, name)?;
        if let Some(value) = value.as_ref().filter(|value| value.is_object() || value.is_string()) {
            self.remember(atom, value);
        }
        Ok(value)
    }

    /// Makes all values at once.
    fn remember_all(&self, ctx: &Ctx<'_>) -> Result<()> {
        for (name, value) in self.kept.values(ctx, self.part)? {
            let atom = new_atom(ctx, name)?;
            self.learn(ctx, atom, name);
            if self.remembered(ctx, atom).is_none() {
                self.remember(atom, &value);
            }
        }
        Ok(())
    }

    /// Turns the object into a plain one with all fields, and returns the object behind it.
    fn settle(&self, ctx: &Ctx<'_>) -> Result<qjs::JSValue> {
        if let Some(object) = self.plain() {
            return Ok(object);
        }
        let object = JsObject::new(ctx.clone())?;
        for name in self.kept.names(self.part) {
            let atom = new_atom(ctx, name)?;
            self.learn(ctx, atom, name);
            if let Some(value) = self.get(ctx, atom)? {
                plain(&object, name, value)?;
            }
        }
        let raw = ctx.as_raw().as_ptr();
        // SAFETY: duplicating only counts up; the state owns the duplicate (rule 2).
        let object = unsafe { qjs::JS_DupValue(raw, object.as_raw()) };
        let before = self.state.replace(State::Plain(object));
        if let State::Lazy(values) = before {
            // SAFETY: the state owned them, and the object behind refers to them as well.
            values.into_iter().for_each(|(_, value)| unsafe { qjs::JS_FreeValue(raw, value) });
        }
        Ok(object)
    }
}

/// The atom of a name, held once for the caller.
fn new_atom(ctx: &Ctx<'_>, name: &str) -> Result<Atom> {
    // SAFETY: the text is read up to its length only.
    let atom =
        unsafe { qjs::JS_NewAtomLen(ctx.as_raw().as_ptr(), name.as_ptr().cast(), name.len() as qjs::size_t) };
    if atom == qjs::JS_ATOM_NULL { Err(Error::Exception) } else { Ok(atom) }
}

/// # Safety
/// `value` is an object of the class, and alive for `'a`.
unsafe fn opaque<'a>(value: qjs::JSValue) -> Option<&'a Object> {
    let mut class = qjs::JS_INVALID_CLASS_ID;
    // SAFETY: by rule 1 the pointer is null (not yet set) or a live box, of which only shared references are made.
    unsafe { qjs::JS_GetAnyOpaque(value, &raw mut class).cast::<Object>().as_ref() }
}

/// What the methods share: a context, the object, errors and panics turned into exceptions.
///
/// # Safety
/// `ctx` is locked, `value` an object of the class.
unsafe fn method(
    ctx: *mut qjs::JSContext,
    value: qjs::JSValue,
    body: impl FnOnce(&Ctx<'_>, &Object) -> Result<c_int>,
) -> c_int {
    // SAFETY: the caller's word, and rule 4.
    let (Some(raw), Some(object)) = (NonNull::new(ctx), unsafe { opaque(value) }) else { return 0 };
    // SAFETY: QuickJS calls methods with a live context, on the thread that has it locked.
    let ctx = unsafe { Ctx::from_raw(raw) };
    let done = catch_unwind(AssertUnwindSafe(|| body(&ctx, object)));
    let error = match done {
        Ok(Ok(result)) => return result,
        Ok(Err(Error::Exception)) => return -1,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the item cannot be shown: its view panicked".to_owned(),
    };
    // It is QuickJS's now, which is told by -1.
    let _ = Exception::throw_internal(&ctx, &error);
    -1
}

unsafe extern "C" fn get_own_property(
    ctx: *mut qjs::JSContext,
    descriptor: *mut qjs::JSPropertyDescriptor,
    object: qjs::JSValue,
    atom: Atom,
) -> c_int {
    let body = |js: &Ctx<'_>, object: &Object| {
        if let Some(plain) = object.plain() {
            // SAFETY: as QuickJS handed them in; the plain object is alive.
            let there = unsafe { qjs::JS_GetOwnProperty(ctx, descriptor, plain, atom) };
            if there > 0 && !descriptor.is_null() {
                // SAFETY: QuickJS's descriptor, which was just filled.
                with_getter(js, unsafe { &mut *descriptor });
            }
            return Ok(there);
        }
        if descriptor.is_null() {
            let name = object.field(js, atom)?;
            return Ok(name.is_some_and(|name| object.kept.find(object.part, name).is_some()).into());
        }
        let Some(value) = object.get(js, atom)? else { return Ok(0) };
        // SAFETY: the descriptor is QuickJS's, to be filled; it takes over the duplicate.
        unsafe {
            descriptor.write(qjs::JSPropertyDescriptor {
                flags: ALL,
                value: qjs::JS_DupValue(ctx, value.as_raw()),
                getter: qjs::JS_UNDEFINED,
                setter: qjs::JS_UNDEFINED,
            });
        }
        Ok(1)
    };
    // SAFETY: QuickJS calls this with a context that is locked, and objects of the class.
    unsafe { method(ctx, object, body) }
}

/// QuickJS calls the getter of an exotic object's accessor even where there is none: `Function.prototype`, which returns
/// `undefined`, stands for it. Nothing here can fail, for the descriptor owns values by now, which an error would leak.
fn with_getter(ctx: &Ctx<'_>, descriptor: &mut qjs::JSPropertyDescriptor) {
    // SAFETY: only the value's tag is read.
    let missing = unsafe { qjs::JS_IsUndefined(descriptor.getter) };
    if missing && descriptor.flags & qjs::JS_PROP_GETSET as c_int != 0 {
        let prototype = Function::prototype(ctx.clone());
        // SAFETY: duplicating only counts up; the descriptor owns the duplicate.
        descriptor.getter = unsafe { qjs::JS_DupValue(ctx.as_raw().as_ptr(), prototype.as_raw()) };
    }
}

unsafe extern "C" fn get_own_property_names(
    ctx: *mut qjs::JSContext,
    table: *mut *mut qjs::JSPropertyEnum,
    length: *mut u32,
    object: qjs::JSValue,
) -> c_int {
    let body = |js: &Ctx<'_>, object: &Object| {
        if let Some(plain) = object.plain() {
            let flags = (qjs::JS_GPN_STRING_MASK | qjs::JS_GPN_SYMBOL_MASK) as c_int;
            // SAFETY: as QuickJS handed them in; the plain object is alive.
            return Ok(unsafe { qjs::JS_GetOwnPropertyNames(ctx, table, length, plain, flags) });
        }
        let names = object.kept.names(object.part);
        let atoms = names.iter().map(|name| new_atom(js, name)).collect::<Result<Vec<_>>>()?;
        // SAFETY: the block has room for all entries (one at least: an empty block may be null), each is written
        // before the table is handed over; QuickJS frees it, and the atoms.
        unsafe {
            let bytes = atoms.len().max(1) * size_of::<qjs::JSPropertyEnum>();
            let block = qjs::js_malloc(ctx, bytes as qjs::size_t).cast::<qjs::JSPropertyEnum>();
            if block.is_null() {
                return Err(Error::Exception);
            }
            for (at, atom) in atoms.iter().enumerate() {
                block.add(at).write(qjs::JSPropertyEnum { is_enumerable: true, atom: *atom });
            }
            table.write(block);
            length.write(atoms.len() as u32);
        }
        Ok(0)
    };
    // SAFETY: QuickJS calls this with a context that is locked, and objects of the class.
    unsafe { method(ctx, object, body) }
}

unsafe extern "C" fn delete_property(ctx: *mut qjs::JSContext, object: qjs::JSValue, atom: Atom) -> c_int {
    let body = |js: &Ctx<'_>, object: &Object| {
        let plain = object.settle(js)?;
        // SAFETY: as QuickJS handed them in; the plain object is alive.
        Ok(unsafe { qjs::JS_DeleteProperty(ctx, plain, atom, 0) })
    };
    // SAFETY: QuickJS calls this with a context that is locked, and objects of the class.
    unsafe { method(ctx, object, body) }
}

unsafe extern "C" fn define_own_property(
    ctx: *mut qjs::JSContext,
    this: qjs::JSValue,
    atom: Atom,
    value: qjs::JSValue,
    getter: qjs::JSValue,
    setter: qjs::JSValue,
    flags: c_int,
) -> c_int {
    let body = |js: &Ctx<'_>, object: &Object| {
        let plain = object.settle(js)?;
        // SAFETY: as QuickJS handed them in; the plain object is alive.
        unsafe {
            if qjs::JS_IsExtensible(ctx, this) == 0 {
                qjs::JS_PreventExtensions(ctx, plain);
            }
            Ok(qjs::JS_DefineProperty(ctx, plain, atom, value, getter, setter, flags))
        }
    };
    // SAFETY: QuickJS calls this with a context that is locked, and objects of the class.
    unsafe { method(ctx, this, body) }
}

unsafe extern "C" fn mark(runtime: *mut qjs::JSRuntime, value: qjs::JSValue, mark: qjs::JS_MarkFunc) {
    // SAFETY: QuickJS calls this with live objects of the class.
    let Some(object) = (unsafe { opaque(value) }) else { return };
    // By rule 3 nobody has it borrowed for writing.
    let Ok(state) = object.state.try_borrow() else { return };
    let mark = |value| {
        // SAFETY: the state owns the value, so it is alive.
        unsafe { qjs::JS_MarkValue(runtime, value, mark) };
    };
    match &*state {
        State::Lazy(values) => values.iter().for_each(|&(_, value)| mark(value)),
        State::Plain(object) => mark(*object),
    }
}

unsafe extern "C" fn finalize(runtime: *mut qjs::JSRuntime, value: qjs::JSValue) {
    let mut class = qjs::JS_INVALID_CLASS_ID;
    // SAFETY: by rule 1 the pointer is null or a box that nobody else frees: an object is finalized once.
    let object = unsafe {
        let pointer: *mut c_void = qjs::JS_GetAnyOpaque(value, &raw mut class);
        if pointer.is_null() {
            return;
        }
        Box::from_raw(pointer.cast::<Object>())
    };
    object.lazies().meter.gave_back(object.charged.get());
    // SAFETY: the state owned these values, and is gone.
    let free = |value| unsafe { qjs::JS_FreeValueRT(runtime, value) };
    match object.state.replace(State::Lazy(Vec::new())) {
        State::Lazy(values) => values.into_iter().for_each(|(_, value)| free(value)),
        State::Plain(object) => free(object),
    }
}
