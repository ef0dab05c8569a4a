//! Items as scripts see them: what a script may do to one, what it cannot do to the next, and what keeping them costs.

use std::sync::{Arc, Weak};

use agent::captured::Captured;
use agent::hooks::ScriptLimits;
use agent_core::HttpExchange;
use agent_core::item::{Body, Message};

use super::rig::{PATIENCE, Rig, captured, item, request, response};

/// Runs the body over two items; whatever it does to the first, the second and what `after` logs of it are whole.
fn survives(body: &str) -> Vec<String> {
    let rig = Rig::new();
    let stats = rig.run(
        &format!(
            "function onItemCaptured(data) {{ if (data.index === 0) {{\n{body}\n}} else {{\n\
             console.log(data.id, data.request.path, JSON.stringify(data).length, Object.keys(data).length) }} }}"
        ),
        2,
    );
    assert_eq!(stats.errors, 0, "{body}: {:?}", rig.log.about());
    let mut lines = rig.log.console();
    assert_eq!(lines.pop().unwrap(), "000000000101-1 /pay 1236 23", "{body}");
    lines
}

#[test]
fn writes_and_deletes_stay_with_their_item() {
    let lines = survives(
        "const request = data.request; data.foo = 1; data.request.headers.x = 'y'; delete data.response;\n\
         data.request.method = 'PUT'; data.dst = null;\n\
         console.log(data.foo, request === data.request, data.request.headers.x, 'response' in data, data.response);\n\
         const { request: { method, ...rest }, ...others } = data;\n\
         console.log(method, 'method' in rest, 'request' in others, rest.path, Object.keys(others).pop());\n\
         console.log(test.pass(data) === data, data.passed, test.fail(data).failed, JSON.parse(JSON.stringify(data)).passed);",
    );
    assert_eq!(lines, ["1 true y false undefined", "PUT false false /pay foo", "true true true true"]);
}

#[test]
fn headers_are_found_in_lower_case_too() {
    let rig = Rig::new();
    let (scripts, failures) = rig.load(&[rig.script(
        "a.js",
        "function onItemCaptured(data) { const h = data.request.headers;\n\
         console.log(h['content-type'], h['Content-Type'], h.constructor, h.cookie, Object.keys(h).join());\n\
         console.log(JSON.stringify(h)); h['content-type'] = 1; console.log(h['content-type']) }",
    )]);
    assert_eq!(failures, []);
    let fields = [("Content-Type", "a"), ("Constructor", "c"), ("Cookie", "sid=1"), ("content-type", "b")];
    let request = Some(request("GET", "/", &fields));
    scripts.deliver(&captured(0, HttpExchange { request, ..HttpExchange::default() }));
    assert!(scripts.drain(PATIENCE));
    assert_eq!(
        rig.log.console(),
        [
            "a, b a, b c [REDACTED] Content-Type,Constructor,Cookie",
            r#"{"Content-Type":"a, b","Constructor":"c","Cookie":"[REDACTED]"}"#,
            "1"
        ],
        "and what is hidden is hidden by any name"
    );
}

#[test]
fn prototypes_that_a_script_poisoned_do_not_take_part() {
    for poison in [
        "Object.defineProperty(Object.prototype, 'request', { get() { return 'evil' }, set() { throw 1 } })",
        "Object.defineProperty(Object.prototype, 'name', { get() { throw new Error('evil') }, set() { throw 1 } })",
        "Object.defineProperty(Object.prototype, 'toJSON', { get() { return undefined } })",
        "Object.defineProperty = Object.keys; Object.prototype.value = 1; delete Object.prototype.value",
        "Object.freeze(Object.prototype); Object.freeze(Array.prototype)",
    ] {
        survives(poison);
    }
    // JSON.stringify itself would trip over it.
    let lines = survives(
        "Object.defineProperty(Array.prototype, '0', { set() { throw new Error('evil') }, configurable: true });\n\
         console.log(data.request.headersList[0].name, data.request.pathSegments[0]); delete Array.prototype[0];",
    );
    assert_eq!(lines, ["Host pay"]);
    let lines = survives(
        "Object.prototype.evil = 'x'; console.log(data.evil, data.request.evil, 'evil' in data, Object.keys(data).length);\n\
         for (const name in data.request.headers) console.log(name); delete Object.prototype.evil;",
    );
    assert_eq!(lines, ["x x true 23", "Host", "evil"], "as with any object");
}

#[test]
fn frozen_sealed_and_without_prototype() {
    let lines = survives(
        "(function () { 'use strict'; const tries = (f) => { try { return String(f()) } catch (e) { return e.name } };\n\
         Object.freeze(data); console.log(Object.isFrozen(data), tries(() => data.tls = 1), tries(() => { delete data.tls }),\n\
             tries(() => data.nothing = 1), data.tls, data.response.status, data.request === data.request);\n\
         Object.preventExtensions(data.request); console.log(Object.isExtensible(data.request),\n\
             tries(() => data.request.nothing = 1), tries(() => data.request.method = 'PUT'), tries(() => delete data.request.url),\n\
             Object.keys(data.request).slice(0, 3).join());\n\
         Object.seal(data.response); console.log(Object.isSealed(data.response), tries(() => data.response.status = 1), data.response.status);\n\
         Object.setPrototypeOf(data.src, null); console.log(data.src.ip, 'toString' in data.src, tries(() => String(data.src)));\n\
         Object.setPrototypeOf(data.dst, { get ip() { return 'evil' }, more: 1 }); console.log(data.dst.ip, data.dst.more);\n\
         const heir = Object.create(data.node); heir.ip = 'mine'; console.log(heir.ip, data.node.ip, heir.name) })();",
    );
    assert_eq!(
        lines,
        [
            "true TypeError TypeError TypeError false 500 true",
            "false TypeError PUT true method,target,path",
            "true 1 1",
            "10.0.0.1 false TypeError",
            "10.0.0.2 1",
            "mine 127.0.0.1 node-7"
        ]
    );
}

#[test]
fn proxies_definitions_and_reentry() {
    let lines = survives(
        "const asked = []; const proxy = new Proxy(data, { get(t, k, r) { asked.push(String(k)); return Reflect.get(t, k, r) } });\n\
         console.log(proxy.request.path, Object.keys(proxy).length, asked.join());\n\
         console.log(JSON.stringify(new Proxy(data, {})) === JSON.stringify(data));\n\
         Object.defineProperty(data, 'id', { get() { return this.index + '!' + Object.keys(this).length } });\n\
         console.log(data.id, Object.keys(data)[0]);\n\
         data.request.toJSON = function () { delete data.response; data.late = 1; return JSON.stringify(this.path) };\n\
         const text = JSON.parse(JSON.stringify(data)); console.log(text.request, 'response' in text, 'late' in text, data.late);\n\
         data.toJSON = () => data; try { JSON.stringify(data); console.log('through') } catch (e) { console.log(e.name) }\n\
         console.log(Reflect.ownKeys(data).slice(-2).join(), Object.getOwnPropertyDescriptor(data, 'tls').value);\n\
         class Odd { constructor() { return data.capture } } class Odder extends Odd { #mine = 7; static of(o) { return o.#mine } }\n\
         const odd = new Odder(); console.log(Odder.of(odd), odd === data.capture, Object.keys(odd).join());\n\
         const weak = new WeakMap([[data, 1]]); console.log(weak.get(data), new Set([data.node, data.node]).size);",
    );
    assert_eq!(
        lines,
        [
            "/pay 23 request",
            "true",
            "0!23 id",
            "\"/pay\" false false 1",
            "through",
            "late,toJSON false",
            "7 true source,gaps,truncated",
            "1 1"
        ]
    );
}

#[test]
fn a_symbol_or_a_strange_name_is_no_field() {
    let lines = survives(
        "console.log(data[Symbol('id')], data[Symbol.for('request')], Symbol('id') in data, data['i\\u0000d'], data[''], data['\\ud800']);\n\
         for (let i = 0; i < 100000; i++) data['x' + i]; console.log(data[0], data[-1], data['request '], data.ID);",
    );
    assert_eq!(
        lines,
        [
            "undefined undefined false undefined undefined undefined",
            "undefined undefined undefined undefined"
        ]
    );
}

#[test]
fn items_that_are_kept_go_on_to_work() {
    let rig = Rig::new();
    let stats = rig.run(
        "const kept = []; let first; function onItemCaptured(data) { first ??= data.response; kept.push(data);\n\
         if (kept.length === 50) console.log(kept.map((d) => d.index).join() === [...Array(50).keys()].join(),\n\
             first === kept[0].response, first.status, kept[7].request.url, JSON.stringify(kept[9]).length) }",
        50,
    );
    assert_eq!(stats.errors, 0);
    assert_eq!(rig.log.console(), ["true true 500 http://shop/pay?x=1 1236"]);
}

/// An item with a body of 256 KiB.
fn large(index: u64) -> Arc<Captured> {
    let mut response = response(200, &[]);
    let bytes = vec![b'x'; 256 << 10].into_boxed_slice();
    let body = Body { size: 256 << 10, bytes, ..Body::default() };
    response.message = Message { body, ..response.message };
    captured(index, HttpExchange { response: Some(response), ..HttpExchange::default() })
}

/// Runs a script of 8 MiB over 200 large items. How many items were alive at most, and what it came to.
fn hoard(body: &str) -> (usize, agent::hooks::ScriptStats, Vec<String>) {
    let mut rig = Rig::new();
    rig.limits = ScriptLimits { memory: 8 << 20, strikes: u32::MAX, ..ScriptLimits::default() };
    let text = format!("var kept = [];\nfunction onItemCaptured(data) {{ {body} }}");
    let (scripts, failures) = rig.load(&[rig.script("a.js", &text)]);
    assert_eq!(failures, []);
    let (mut items, mut most): (Vec<Weak<Captured>>, usize) = (Vec::new(), 0);
    for n in 0..200 {
        let item = large(n);
        items.push(Arc::downgrade(&item));
        scripts.deliver(&item);
        drop(item);
        assert!(scripts.drain(PATIENCE));
        most = most.max(items.iter().filter(|item| item.strong_count() > 0).count());
    }
    let stats = scripts.shutdown(PATIENCE).remove(0);
    let alive = items.iter().filter(|item| item.strong_count() > 0).count();
    assert_eq!(alive, 0, "{body}: with the script its items go");
    (most, stats, rig.log.about())
}

#[test]
fn a_script_that_hoards_items_runs_into_its_memory_limit() {
    for body in [
        "kept.push(data)",
        "kept.push(data.response)",
        "kept.push(() => data.response.content.size)",
        "data.self = data; kept.push(data.response.content); data.response.data = data",
        "Object.freeze(data); kept.push(new Proxy(data, {}))",
        "kept.push(Object.create(data))",
    ] {
        let (most, stats, about) = hoard(body);
        // 32 of them are 8 MiB.
        assert!(most > 10 && most <= 33, "{body}: {most} were alive at once");
        assert!(stats.out_of_memory >= 5 && stats.restarts >= 5, "{body}: {stats:?}");
        assert!(about[0].contains("exceeded its memory limit of 8 MiB"), "{body}: {about:?}");
    }
}

#[test]
fn items_that_are_let_go_cost_nothing_even_in_cycles() {
    for body in [
        "data.response.content",
        "data.self = data; data.response.data = data.self",
        "kept[data.index % 5] = data",
        "kept = [kept[0], data.request]; data.kept = kept; kept = [1]",
    ] {
        let (most, stats, about) = hoard(body);
        assert!(most <= 33, "{body}: {most} were alive at once");
        assert_eq!((stats.calls, stats.errors), (200, 0), "{body}: {about:?}");
    }
}

#[test]
fn an_item_is_shared_by_scripts_and_none_sees_the_others_changes() {
    let rig = Rig::new();
    let text = "function onItemCaptured(data) { console.log(data.mark, data.request.method); data.mark = 1; data.request.method = 'PUT' }";
    let (scripts, failures) = rig.load(&[rig.script("a.js", text), rig.script("b.js", text)]);
    assert_eq!(failures, []);
    let item = item(0);
    for _ in 0..2 {
        scripts.deliver(&item);
    }
    assert!(scripts.drain(PATIENCE));
    assert_eq!(rig.log.console(), ["undefined GET"; 4]);
}
