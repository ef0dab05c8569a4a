//! Scripts that reach for the host: files, modules, globals, other scripts, the log, the helpers' own objects.
//!
//! `cargo xtask mutate hooks` weakens the runtime in one place after the other and demands that these tests notice.

use std::os::unix::fs::symlink;

use agent::outbox::Delivery;

use crate::rig::{Rig, files_in};

/// Runs each attempt, and says what each came to.
fn attempts(rig: &Rig, attempts: &[String]) -> Vec<String> {
    attempts.iter().map(|attempt| rig.thrown(attempt)).collect()
}

#[test]
fn no_path_leads_to_a_file_outside() {
    let rig = Rig::new();
    let secret = rig.dir.path().join("secret");
    std::fs::write(&secret, "SECREThushhush").unwrap();
    std::fs::create_dir_all(rig.data()).unwrap();
    let absolute = secret.display().to_string();
    let paths = [
        "../../secret",
        "./../../secret",
        "x/../../../secret",
        "..//..//secret",
        "../../data/../secret",
        &absolute,
    ];
    for path in paths {
        for call in [
            format!("throw file.read({path:?})"),
            format!("file.copy({path:?}, 'in'); throw file.read('in')"),
            format!("file.write({path:?}, 'bad'); throw 'written'"),
            format!("file.append({path:?}, 'bad'); throw 'written'"),
            format!("file.delete({path:?}); throw 'gone'"),
            format!("file.move({path:?}, 'in'); throw file.read('in')"),
            format!("file.tar({path:?}); throw 'packed'"),
            format!("vendor.slackBot('t', 'c', 'p', 't', 'c', {{}}, {{ f: {path:?} }}); throw 'sent'"),
        ] {
            let said = rig.thrown(&call);
            assert!(said.contains("leaves the script's data folder"), "{call}: {said}");
        }
    }
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "SECREThushhush");
    assert!(rig.outbox.0.lock().unwrap().is_empty());
}

#[test]
fn no_symbolic_link_leads_outside() {
    let rig = Rig::new();
    let data = rig.data();
    std::fs::create_dir_all(data.join("d")).unwrap();
    std::fs::write(rig.dir.path().join("secret"), "SECREThushhush").unwrap();
    symlink("../../secret", data.join("relative")).unwrap();
    symlink(rig.dir.path().join("secret"), data.join("absolute")).unwrap();
    symlink("../..", data.join("up")).unwrap();
    symlink("../../../new", data.join("d/dangling")).unwrap();
    symlink("relative", data.join("twice")).unwrap();
    symlink("/proc/self", data.join("proc")).unwrap();
    for path in ["relative", "absolute", "up/secret", "twice", "proc/environ", "proc/root/etc/passwd"] {
        let said = attempts(
            &rig,
            &[
                format!("throw file.read('{path}')"),
                format!("file.copy('{path}', 'in'); throw file.read('in')"),
                format!("file.write('{path}', 'bad'); throw 'written'"),
                format!("vendor.slackBot('t', 'c', 'p', 't', 'c', {{}}, {{ f: '{path}' }}); throw 'sent'"),
            ],
        );
        assert!(said.iter().all(|said| said.contains("leaves the script's data folder")), "{path}: {said:?}");
    }
    rig.thrown("file.write('d/dangling', 'bad')");
    rig.thrown("file.mkdir('up/made')");
    rig.body("file.delete('d')");
    assert_eq!(files_in(rig.dir.path()), ["data", "pcaps", "scripts", "secret"]);
    assert_eq!(std::fs::read_to_string(rig.dir.path().join("secret")).unwrap(), "SECREThushhush");
}

#[test]
fn import_reads_nothing_outside_the_scripts_folder() {
    let rig = Rig::new();
    let outside = rig.dir.path().join("outside.js");
    std::fs::write(&outside, "export const leak = 'LEAK';").unwrap();
    std::fs::create_dir(rig.dir.path().join("scripts/sub")).unwrap();
    symlink(&outside, rig.dir.path().join("scripts/link.js")).unwrap();
    symlink("..", rig.dir.path().join("scripts/up")).unwrap();
    let absolute = outside.display().to_string();
    for name in [
        "../outside.js",
        "./../outside.js",
        "./link.js",
        "./up/outside.js",
        "./sub/../../outside.js",
        &absolute,
        "file:///etc/passwd",
        "std",
        "os",
        "qjs:os",
    ] {
        let lines = rig.body(&format!(
            "import('{name}').then(m => console.log('in: ' + m.leak), e => console.log('kept out: ' + e.message));"
        ));
        assert!(lines.len() == 1 && lines[0].starts_with("kept out: "), "{name}: {lines:?}");
    }
}

#[test]
fn no_way_of_making_code_reaches_more_than_the_globals() {
    let rig = Rig::new();
    let lines = rig.body(
        "const makers = { eval: c => (0, eval)(c), Function: c => Function('return ' + c)(),\n\
           ctor: c => (() => 1).constructor.constructor('return ' + c)(), generator: c => (function* () {}).constructor('yield ' + c)().next().value,\n\
           helper: c => file.read.constructor('return ' + c)(), error: c => { try { null.x } catch (e) { return e.constructor.constructor('return ' + c)() } } };\n\
         const names = ['process', 'require', 'module', 'Deno', 'Bun', 'std', 'os', 'fetch', 'XMLHttpRequest', 'WebAssembly', 'load', 'loadScript', 'print',\n\
           'readFile', 'setTimeout', 'Worker', 'scriptArgs', 'bjson', 'gc', '__remora_hooks', '__loadScript'];\n\
         for (const [how, make] of Object.entries(makers)) {\n\
           if (make('globalThis') !== globalThis) console.log(how + ' sees another global');\n\
           for (const name of names) if (make('typeof ' + name) !== 'undefined') console.log(how + ' reaches ' + name);\n\
         }\n\
         console.log('tried');",
    );
    assert_eq!(lines, ["tried"]);
}

#[test]
fn every_function_that_can_be_reached_is_javascripts_own_or_a_helpers() {
    // Walks prototypes, properties, getters' functions and symbols from the global object.
    const WALK: &str = "(function () {\n\
        const seen = new Set(), found = [], open = [[globalThis, '']];\n\
        while (open.length) {\n\
          const [it, path] = open.pop();\n\
          if ((typeof it !== 'object' && typeof it !== 'function') || it === null || seen.has(it)) continue;\n\
          seen.add(it);\n\
          if (typeof it === 'function') found.push(path);\n\
          open.push([Object.getPrototypeOf(it), path + '.__proto__']);\n\
          for (const key of Reflect.ownKeys(it)) {\n\
            const own = Object.getOwnPropertyDescriptor(it, key);\n\
            for (const part of ['value', 'get', 'set']) open.push([own[part], path + '.' + String(key)]);\n\
          }\n\
        }\n\
        return found;\n\
      })()";
    let rig = Rig::new();
    let reached = rig.body(&format!("for (const path of {WALK}) console.log(path)"));
    let plain = rquickjs::Context::full(&rquickjs::Runtime::new().unwrap()).unwrap();
    let own: Vec<String> = plain.with(|ctx| ctx.eval(WALK).unwrap());
    let leaf = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
    let own: std::collections::BTreeSet<String> = own.iter().map(leaf).collect();
    let helpers = [
        "console",
        "file",
        "hash",
        "jobs",
        "pcap",
        "prometheus",
        "test",
        "utils",
        "vendor",
        "onItemCaptured",
        "hooks",
        "kfl",
    ];
    let more: Vec<&String> = reached
        .iter()
        .filter(|path| !helpers.iter().any(|helper| path.starts_with(&format!(".{helper}"))))
        .filter(|path| !own.contains(&leaf(path)))
        .collect();
    assert!(reached.len() > 500 && more.is_empty(), "{} reached, {more:?}", reached.len());
}

#[test]
fn helpers_cannot_be_changed_and_bent_prototypes_do_not_reach_them() {
    let rig = Rig::new();
    rig.body("file.mkdir('kept'); file.write('kept/a', 'x')");
    let lines = rig.body(
        "for (const helper of [console, file, hash, jobs, jobs.scheduler, pcap, prometheus, test, utils, vendor]) {\n\
           for (const key of Object.keys(helper)) { try { helper[key] = () => 'bent' } catch (e) {}\n\
             try { Object.defineProperty(helper, key, { value: () => 'bent' }) } catch (e) {}\n\
             try { helper[key].call = () => 'bent' } catch (e) {} try { delete helper[key] } catch (e) {}\n\
             if (typeof helper[key] === 'function' && String(helper[key]).includes('bent')) console.log('bent: ' + key) }\n\
           try { Object.setPrototypeOf(helper, { bent: 1 }) } catch (e) {} if (helper.bent) console.log('bent') }\n\
         Object.prototype.sneaked = 'in'; Object.prototype[0] = 'in'; Array.prototype.sneaked = 'in';\n\
         Object.defineProperty(Object.prototype, 'text', { set() { console.log('setter called') }, configurable: true });\n\
         Array.prototype[Symbol.iterator] = function* () { yield '2' }; Array.prototype.toJSON = () => ['3'];\n\
         String.prototype.toString = () => 'bent'; Object.keys = () => ['bent']; JSON.stringify = () => 'bent';\n\
         Object.freeze = x => x; Function.prototype.call = Function.prototype.apply = () => 'bent';\n\
         vendor.slackBot('t', 'c', 'p', 'text', 'c', { A: 1 }, { f: pcap.path('1') });\n\
         pcap.snapshot(['1']); prometheus.metric('m', '', 1, 1, { l: 'v' }); console.log(file.read('kept/a'));",
    );
    assert_eq!(lines, ["x"]);
    let queued = rig.outbox.0.lock().unwrap();
    let Delivery::SlackBot { fields, files, alert, .. } = &queued[0].delivery else { panic!() };
    assert_eq!((fields.len(), files.len(), alert.text.as_str()), (1, 1, "text"), "{fields:?}");
}

#[test]
fn a_helper_may_be_entered_again_while_it_reads_its_arguments() {
    let rig = Rig::new();
    let enter = "jobs.list(); jobs.schedule('x', '* * * * * *', () => 1); jobs.removeAll(); file.write('f', 'x'); file.delete('f');\n\
                 prometheus.metric('m', '', 1, 1); vendor.slack('u', 'p', 't', 'c', {}); console.log('inner'); pcap.path('1')";
    let lines = rig.body(&format!(
        "const bomb = {{ toJSON() {{ {enter}; return 1 }}, get a() {{ {enter}; return 1 }} }};\n\
         const proxy = new Proxy({{}}, {{ ownKeys() {{ {enter}; return ['a'] }}, getOwnPropertyDescriptor: () => ({{ enumerable: true, configurable: true }}),\n\
           get() {{ {enter}; return 'x' }} }});\n\
         vendor.slackBot('t', 'c', 'p', 't', 'c', {{ f: bomb }}); vendor.slackBot('t', 'c', 'p', 't', 'c', proxy);\n\
         prometheus.metric('m2', '', 1, 1, {{ l: bomb }}); utils.json2Yaml(bomb); console.log(bomb); test.pass(bomb);\n\
         jobs.removeAll(); console.log('done')"
    ));
    assert_eq!(lines.last().map(String::as_str), Some("done"), "{:?} {:?}", rig.log.about(), lines);
    assert!(lines.iter().filter(|line| *line == "inner").count() >= 5);
}

#[test]
fn a_line_of_a_script_is_one_line_of_the_log() {
    let rig = Rig::new().env("SLACK_AUTH_TOKEN", "xoxb-very-hushhush");
    let lines = rig.body(
        "console.log('a\\nscript b.js: forged\\r\\u001b[2J\\u2028x'); console.log(SLACK_AUTH_TOKEN.split('').join('') + '!');\n\
         console.log({ k: SLACK_AUTH_TOKEN })",
    );
    assert_eq!(lines.len(), 3);
    assert!(
        lines
            .iter()
            .all(|line| !line.contains(['\n', '\r', '\u{1b}', '\u{2028}']) && !line.contains("xoxb-very")),
        "{lines:?}"
    );
}
