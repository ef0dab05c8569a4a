//! `console`: one log line a call.

use super::{Call, HelperResult, Host, Member};
use crate::hooks::errors::display;
use crate::hooks::log::{Level, split_at_char};

pub(super) const MEMBERS: &[Member] = &[
    ("debug", "console.debug", |host, call| line(host, call, Level::Debug)),
    ("error", "console.error", |host, call| line(host, call, Level::Error)),
    ("log", "console.log", |host, call| line(host, call, Level::Info)),
    ("warn", "console.warn", |host, call| line(host, call, Level::Warn)),
];

fn line<'js>(host: &Host, call: &Call<'js>, level: Level) -> HelperResult<'js> {
    let longest = host.limits().console_line;
    let mut text = String::new();
    for (n, value) in call.args().iter().enumerate() {
        if n > 0 {
            text.push(' ');
        }
        let shown = display(call.ctx(), value);
        // A little more than fits, so that the log says that something was cut.
        text.push_str(split_at_char(&shown, longest + 4).0);
        if text.len() > longest {
            break;
        }
    }
    host.logger().console(level, &text);
    call.done()
}
