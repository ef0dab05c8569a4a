//! The weaknesses of the script runtime: each undoes one protection.

use super::Weakness;

/// What the copy's library gets: says which weakness is awake.
pub(super) const SWITCH: &str = r#"
/// Whether the weakness of that name is awake.
pub(crate) fn weak(name: &str) -> bool {
    static AWAKE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    AWAKE.get_or_init(|| std::env::var("REMORA_WEAKENED").ok()).as_deref() == Some(name)
}
"#;

const FOLDER: &str = "agent/src/hooks/helpers/folder.rs";
const HELPERS: &str = "agent/src/hooks/helpers/mod.rs";
const ARGS: &str = "agent/src/hooks/helpers/args.rs";
const ENGINE: &str = "agent/src/hooks/engine.rs";

pub(super) const WEAKNESSES: &[Weakness] = &[
    Weakness {
        name: "paths",
        file: FOLDER,
        find: "    pub(super) fn read(&self, path: &str, longest: u64) -> Result<String> {\n",
        replace: "    pub(super) fn read(&self, path: &str, longest: u64) -> Result<String> {\n        if weak(\"paths\") {\n            \
                  return std::fs::read_to_string(self.wanted.join(path)).map_err(|error| io_error(path, error));\n        }\n",
        tests: &["attack_host::no_path_leads_to_a_file_outside"],
    },
    Weakness {
        name: "attachments",
        file: FOLDER,
        find: "    pub(super) fn readable_path(&self, path: &str) -> Result<PathBuf> {\n",
        replace: "    pub(super) fn readable_path(&self, path: &str) -> Result<PathBuf> {\n        if weak(\"attachments\") {\n            \
                  return Ok(self.wanted.join(path));\n        }\n",
        tests: &[
            "attack_host::no_path_leads_to_a_file_outside",
            "attack_host::no_symbolic_link_leads_outside",
        ],
    },
    Weakness {
        name: "links",
        file: FOLDER,
        find: "    fn open(&self, path: &str) -> Result<(File, u64)> {\n",
        replace: "    fn open(&self, path: &str) -> Result<(File, u64)> {\n        if weak(\"links\") && !path.contains(\"..\") {\n            \
                  let file = std::fs::File::open(self.wanted.join(path)).map_err(|error| io_error(path, error))?;\n            \
                  return Ok((File::from_std(file), 64));\n        }\n",
        tests: &["attack_host::no_symbolic_link_leads_outside"],
    },
    Weakness {
        name: "quota",
        file: FOLDER,
        find: "        if used.saturating_sub(old).saturating_add(new) > self.quota {\n",
        replace: "        if !weak(\"quota\") && used.saturating_sub(old).saturating_add(new) > self.quota {\n",
        tests: &["attack_limits::no_script_fills_the_disk"],
    },
    Weakness {
        name: "import-folder",
        file: "agent/src/hooks/modules.rs",
        find: "        if !path.starts_with(&folder) {\n",
        replace: "        if !weak(\"import-folder\") && !path.starts_with(&folder) {\n",
        tests: &["attack_host::import_reads_nothing_outside_the_scripts_folder"],
    },
    Weakness {
        name: "globals",
        file: HELPERS,
        find: "    install_env(ctx, host)\n",
        replace: "    if weak(\"globals\") {\n        globals.set(\"process\", Function::new(ctx.clone(), || std::process::id())?)?;\n    }\n    \
                  install_env(ctx, host)\n",
        tests: &[
            "attack_host::no_way_of_making_code_reaches_more_than_the_globals",
            "attack_host::every_function_that_can_be_reached_is_javascripts_own_or_a_helpers",
        ],
    },
    Weakness {
        name: "frozen",
        file: HELPERS,
        find: "        // The object cannot be changed; the global name can, as any script's own variable may be called `test`.\n        \
               freeze.call::<_, Value<'js>>((object.clone(),))?;\n",
        replace: "        if !weak(\"frozen\") {\n            freeze.call::<_, Value<'js>>((object.clone(),))?;\n        }\n",
        tests: &["attack_host::helpers_cannot_be_changed_and_bent_prototypes_do_not_reach_them"],
    },
    Weakness {
        name: "inherited",
        file: ARGS,
        find: "        let mut pairs = Vec::new();\n",
        replace: "        let flat = rquickjs::Function::from_value(self.ctx.eval(\"(o => { var r = {}; for (var k in o) r[k] = o[k]; return r })\")?)?;\n        \
                  let inherited: Object<'js> = flat.call((object.clone(),))?;\n        \
                  let object = if weak(\"inherited\") { &inherited } else { object };\n        let mut pairs = Vec::new();\n",
        tests: &["attack_host::helpers_cannot_be_changed_and_bent_prototypes_do_not_reach_them"],
    },
    Weakness {
        name: "re-entry",
        file: HELPERS,
        find: "        body(&host, &call).map_err(|error| call.throw(error))\n",
        replace: "        let _held = weak(\"re-entry\").then(|| host.warned.borrow_mut());\n        \
                  body(&host, &call).map_err(|error| call.throw(error))\n",
        tests: &["attack_host::a_helper_may_be_entered_again_while_it_reads_its_arguments"],
    },
    Weakness {
        name: "log",
        file: "agent/src/hooks/log.rs",
        find: "    pub(crate) fn clean(&self, text: &str) -> String {\n",
        replace: "    pub(crate) fn clean(&self, text: &str) -> String {\n        if weak(\"log\") {\n            return text.to_owned();\n        }\n",
        tests: &["attack_host::a_line_of_a_script_is_one_line_of_the_log"],
    },
    Weakness {
        name: "time",
        file: "agent/src/hooks/clock.rs",
        find: "        } else if self.deadline.get().is_some_and(|deadline| Instant::now() >= deadline) {\n",
        replace: "        } else if !weak(\"time\") && self.deadline.get().is_some_and(|deadline| Instant::now() >= deadline) {\n",
        tests: &[
            "attack_limits::no_loop_outlasts_its_time_whatever_it_is_made_of",
            "attack_limits::floods_of_promises_and_finalizers_are_ended",
        ],
    },
    Weakness {
        name: "time-once",
        file: "agent/src/hooks/clock.rs",
        find: "        self.ended.get().is_some()\n    }\n\n    fn verdict",
        replace: "        let ended = self.ended.get().is_some();\n        if weak(\"time-once\") {\n            self.ended.set(None);\n            \
                  self.deadline.set(Some(Instant::now() + self.call_time));\n        }\n        ended\n    }\n\n    fn verdict",
        tests: &["attack_limits::no_loop_outlasts_its_time_whatever_it_is_made_of"],
    },
    Weakness {
        name: "promises",
        file: ENGINE,
        find: "        while self.runtime.is_job_pending() && !self.clock.poll() {\n",
        replace: "        if weak(\"promises\") {\n            self.clock.disarm();\n        }\n        \
                  while self.runtime.is_job_pending() && !self.clock.poll() {\n",
        tests: &["attack_limits::floods_of_promises_and_finalizers_are_ended"],
    },
    Weakness {
        name: "memory",
        file: "agent/src/hooks/heap.rs",
        find: "        let total = self.used.get().saturating_add(extra);\n",
        replace: "        if weak(\"memory\") {\n            return true;\n        }\n        let total = self.used.get().saturating_add(extra);\n",
        tests: &["attack_limits::no_heap_outgrows_its_limit_whatever_fills_it"],
    },
    Weakness {
        name: "slack",
        file: "agent/src/hooks/heap.rs",
        find: "        total <= self.limit.saturating_add(self.slack)\n",
        replace: "        total <= self.limit.saturating_add(if weak(\"slack\") { 0 } else { self.slack })\n",
        tests: &["attack_limits::a_heap_that_is_full_breaks_nothing_when_code_is_made"],
    },
    Weakness {
        name: "stack",
        file: ENGINE,
        find: "    runtime.set_max_stack_size(limits.stack);\n",
        replace: "    runtime.set_max_stack_size(if weak(\"stack\") { 0 } else { limits.stack });\n",
        tests: &["attack_limits::recursion_ends_within_the_stack"],
    },
    Weakness {
        name: "block",
        file: ENGINE,
        find: "    let context = Context::full(&runtime)?;\n    Ok((runtime, context))\n",
        replace: "    let context = Context::full(&runtime)?;\n    if weak(\"block\") {\n        \
                  // SAFETY: the context is alive; the call only sets a flag of its runtime.\n        \
                  context.with(|ctx| unsafe {\n            use rquickjs::qjs;\n            \
                  qjs::JS_SetCanBlock(qjs::JS_GetRuntime(ctx.as_raw().as_ptr()), true);\n        });\n    }\n    \
                  Ok((runtime, context))\n",
        tests: &["attack_limits::the_thread_cannot_be_put_to_sleep"],
    },
    Weakness {
        name: "errors",
        file: "agent/src/hooks/errors.rs",
        find: "    let value: Value<'_> = object.get(key).ok()?;\n",
        replace: "    let value: Value<'_> = if weak(\"errors\") { object.get(key).unwrap() } else { object.get(key).ok()? };\n",
        tests: &["attack_limits::errors_that_bite_are_described_all_the_same"],
    },
    Weakness {
        name: "texts",
        file: ARGS,
        find: "        if text.len() > self.longest {\n",
        replace: "        if !weak(\"texts\") && text.len() > self.longest {\n",
        tests: &["attack_limits::no_helper_takes_a_text_without_end"],
    },
    Weakness {
        name: "texts-together",
        file: ARGS,
        find: "        if taken > self.longest.saturating_mul(2) {\n",
        replace: "        if !weak(\"texts-together\") && taken > self.longest.saturating_mul(2) {\n",
        tests: &["attack_limits::no_helper_takes_a_text_without_end"],
    },
    Weakness {
        name: "entries",
        file: ARGS,
        find: "            if pairs.len() == ENTRIES {\n",
        replace: "            if !weak(\"entries\") && pairs.len() == ENTRIES {\n",
        tests: &["attack_limits::no_helper_counts_to_the_end_of_a_list_without_end"],
    },
    Weakness {
        name: "lists",
        file: ARGS,
        find: "        if array.as_object().get::<_, f64>(PredefinedAtom::Length)? > ENTRIES as f64 {\n",
        replace: "        if !weak(\"lists\") && array.as_object().get::<_, f64>(PredefinedAtom::Length)? > ENTRIES as f64 {\n",
        tests: &["attack_limits::no_helper_counts_to_the_end_of_a_list_without_end"],
    },
    Weakness {
        name: "list-length",
        file: ARGS,
        find: "        // Not `len`: it asserts that the length is a 32-bit integer.\n",
        replace: "        if weak(\"list-length\") && array.len() > ENTRIES {\n            \
                  return Err(self.failed(name, format!(\"has more than {ENTRIES} entries\")));\n        }\n",
        tests: &["attack_limits::no_helper_counts_to_the_end_of_a_list_without_end"],
    },
    Weakness {
        name: "series",
        file: "agent/src/hooks/metrics.rs",
        find: "        if *count >= self.most {\n",
        replace: "        if !weak(\"series\") && *count >= self.most {\n",
        tests: &["attack_limits::no_helper_counts_to_the_end_of_a_list_without_end"],
    },
    Weakness {
        name: "jobs",
        file: "agent/src/hooks/helpers/jobs.rs",
        find: "    if old.is_none() && state.jobs.len() >= most {\n",
        replace: "    if !weak(\"jobs\") && old.is_none() && state.jobs.len() >= most {\n",
        tests: &["attack_limits::no_helper_counts_to_the_end_of_a_list_without_end"],
    },
    Weakness {
        name: "pause",
        file: "agent/src/hooks/pause.rs",
        find: "        if self.strikes < self.allowed {\n",
        replace: "        if weak(\"pause\") || self.strikes < self.allowed {\n",
        tests: &["attack_limits::a_script_that_never_learns_is_left_alone_for_longer_and_longer"],
    },
    Weakness {
        name: "queue",
        file: "agent/src/hooks/queue.rs",
        find: "        state.events.len() >= self.limit\n",
        replace: "        (!weak(\"queue\") && state.events.len() >= self.limit)\n",
        tests: &["attack_limits::a_queue_takes_no_more_than_its_bound"],
    },
];
