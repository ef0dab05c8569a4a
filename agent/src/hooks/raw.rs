//! What rquickjs has no safe call for: compiling a sloppy script without running it, and strings with lone surrogates.

use std::ffi::CString;

use rquickjs::{Ctx, Error, Result, String as JsString, Value, qjs};

/// Compiles a global, sloppy-mode script without running it.
///
/// # Errors
/// The pending exception is QuickJS's `SyntaxError`; a NUL in the source is [`Error::InvalidString`].
pub(crate) fn compile_script(ctx: &Ctx<'_>, name: &str, source: &str) -> Result<()> {
    let text = CString::new(source)?;
    let name = CString::new(name)?;
    let length = text.as_bytes().len() as qjs::size_t;
    let flags = qjs::JS_EVAL_TYPE_GLOBAL | qjs::JS_EVAL_FLAG_COMPILE_ONLY;
    // SAFETY: `ctx` is locked and alive; text is NUL-terminated at `length`, as JS_Eval asks; the value it returns is
    // owned by us and handed to `Value`, which frees it. With COMPILE_ONLY no JavaScript runs, hence no Rust callback.
    let value = unsafe {
        let raw = qjs::JS_Eval(ctx.as_raw().as_ptr(), text.as_ptr(), length, name.as_ptr(), flags as i32);
        Value::from_raw(ctx.clone(), raw)
    };
    if value.is_exception() { Err(Error::Exception) } else { Ok(()) }
}

/// A JavaScript string as Rust text; halves of surrogate pairs (a cut emoji) become U+FFFD.
///
/// # Errors
/// When the script is out of memory.
pub(crate) fn text(string: &JsString<'_>) -> Result<String> {
    match string.to_string() {
        Err(Error::Utf8(_)) => lossy(string),
        other => other,
    }
}

fn lossy(string: &JsString<'_>) -> Result<String> {
    let ctx = string.ctx().as_raw().as_ptr();
    let mut length = 0usize;
    // SAFETY: `string` is alive and belongs to `ctx`; QuickJS writes the length and returns that many bytes or null.
    let start = unsafe { qjs::JS_ToCStringLen(ctx, &raw mut length, string.as_raw()) };
    if start.is_null() {
        return Err(Error::Exception);
    }
    // SAFETY: the bytes stay valid until JS_FreeCString, which is called once, after they were copied.
    let text = unsafe {
        let bytes = std::slice::from_raw_parts(start.cast::<u8>(), length);
        let text = String::from_utf8_lossy(bytes).into_owned();
        qjs::JS_FreeCString(ctx, start);
        text
    };
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rquickjs::{Context, Runtime};

    #[test]
    fn compiling_runs_nothing_and_finds_errors() {
        let runtime = Runtime::new().unwrap();
        let context = Context::full(&runtime).unwrap();
        context.with(|ctx| {
            compile_script(&ctx, "a.js", "globalThis.ran = true; var x = 010;").unwrap();
            assert!(!ctx.globals().contains_key("ran").unwrap());
            assert!(compile_script(&ctx, "a.js", "function (").is_err());
            assert!(ctx.catch().is_error());
            assert!(matches!(compile_script(&ctx, "a.js", "a\0b"), Err(Error::InvalidString(_))));
        });
    }

    #[test]
    fn a_cut_emoji_is_text_all_the_same() {
        let runtime = Runtime::new().unwrap();
        let context = Context::full(&runtime).unwrap();
        context.with(|ctx| {
            let whole: JsString<'_> = ctx.eval("'a😀b'").unwrap();
            assert_eq!(text(&whole).unwrap(), "a😀b");
            let cut: JsString<'_> = ctx.eval("'a😀b'.slice(0, 2)").unwrap();
            assert!(text(&cut).unwrap().starts_with("a\u{fffd}"));
        });
    }
}
