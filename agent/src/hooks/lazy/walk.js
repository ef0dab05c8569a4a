// Walks a lazy item and its model, what JSON.parse makes of its text, in an order that `seed` says.
// Throws where they differ. Then does the same to both, and compares again.
(function (data, text, seed) {
    "use strict";
    const model = JSON.parse(text);
    let state = seed >>> 0;
    const random = (n) => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 4294967296) * n);
    };
    const shuffled = (list) => {
        const rest = [...list], out = [];
        while (rest.length) out.push(rest.splice(random(rest.length), 1)[0]);
        return out;
    };
    const same = (a, b, path, what) => {
        if (!Object.is(a, b)) throw new Error(`${path}: ${what}: ${String(a)}, not ${String(b)}`);
    };
    const described = (object, key) => {
        const d = Object.getOwnPropertyDescriptor(object, key);
        // An accessor without getter has one all the same, which returns undefined.
        const get = d && d.set ? "" : typeof d?.get;
        return d && [d.writable, d.enumerable, d.configurable, get, typeof d.set, typeof d.value].join();
    };
    const forIn = (object) => {
        const names = [];
        for (const name in object) names.push(name);
        return names.join("\n");
    };
    const looks = {
        keys: (l, m, path) => same(Object.keys(l).join("\n"), Object.keys(m).join("\n"), path, "keys"),
        forIn: (l, m, path) => same(forIn(l), forIn(m), path, "for in"),
        json: (l, m, path) => same(JSON.stringify(l), JSON.stringify(m), path, "JSON"),
        spread: (l, m, path) => {
            if (!Array.isArray(m)) same(JSON.stringify({ ...l }), JSON.stringify({ ...m }), path, "spread");
        },
        entries: (l, m, path) =>
            same(JSON.stringify(Object.entries(l)), JSON.stringify(Object.entries(m)), path, "entries"),
        values: (l, m, path) =>
            same(JSON.stringify(Object.values(l)), JSON.stringify(Object.values(m)), path, "values"),
        assign: (l, m, path) =>
            same(JSON.stringify(Object.assign({}, l)), JSON.stringify(Object.assign({}, m)), path, "assign"),
        prototype: (l, m, path) => same(Object.getPrototypeOf(l), Object.getPrototypeOf(m), path, "prototype"),
        tag: (l, m, path) =>
            same(Object.prototype.toString.call(l), Object.prototype.toString.call(m), path, "tag"),
        array: (l, m, path) => same(Array.isArray(l), Array.isArray(m), path, "isArray"),
        strangers: (l, m, path) => {
            for (const name of ["nothing", "hasOwnProperty", "__proto__", "then", "0", Symbol.iterator, Symbol("id")]) {
                same(name in l, name in m, path, `${String(name)} in`);
                same(Object.hasOwn(l, name), Object.hasOwn(m, name), path, `${String(name)} own`);
            }
        },
        state: (l, m, path) => {
            // Headers have names that only asking for them shows.
            if (Object.getOwnPropertyNames(l).length !== Object.getOwnPropertyNames(m).length) return;
            for (const is of ["isExtensible", "isFrozen", "isSealed"]) same(Object[is](l), Object[is](m), path, is);
        },
        each: (l, m, path) => {
            for (const key of shuffled(Object.keys(m))) {
                same(described(l, key), described(m, key), `${path}.${key}`, "descriptor");
                same(key in l, true, `${path}.${key}`, "in");
                same(l[key], l[key], `${path}.${key}`, "identity");
                same(l.propertyIsEnumerable(key), true, `${path}.${key}`, "enumerable");
                walk(l[key], m[key], `${path}.${key}`);
            }
        },
    };
    const walk = (l, m, path) => {
        if (m === null || typeof m !== "object") return same(l, m, path, "value");
        if (l === null || typeof l !== "object") throw new Error(`${path}: ${l} is no object`);
        for (const look of shuffled(Object.keys(looks)).slice(0, 3 + random(12))) looks[look](l, m, path);
    };

    // What a script may do to an object; throws alike, or returns alike.
    const deeds = [
        (o, key, n) => (o[key] = n),
        (o, key) => delete o[key],
        (o, key, n) => Object.defineProperty(o, key, { value: n }),
        (o, key, n) => Object.defineProperty(o, key, { value: n, enumerable: n % 2 === 0, writable: n % 3 === 0 }),
        (o, key, n) => Object.defineProperty(o, key, { get: () => n, configurable: true, enumerable: true }) && 0,
        (o, key, n) => Object.defineProperty(o, key, { set: () => {}, enumerable: n % 2 === 0 }) && 0,
        (o) => Object.preventExtensions(o) && 0,
        (o) => Object.seal(o) && 0,
        (o) => Object.freeze(o) && 0,
        (o, key, n) => Reflect.set(o, key, n),
        (o, key, n) => Reflect.set(Object.create(o), key, n),
        (o, key) => Reflect.deleteProperty(o, key),
        (o, key, n) => Reflect.defineProperty(o, key, { value: n, configurable: true }),
        (o) => Object.freeze(new Proxy(o, {})) && 0,
        (o, key, n) => (new Proxy(o, {})[key] = n),
        (o, key, n) => ((Object.create(o)[key] = n), 0),
        (o, key, n) => ((o[Symbol.for("mark")] = n), Object.getOwnPropertySymbols(o).length),
        (o, key, n) => ((o[n % 40] = n), 0),
        (o) => Object.setPrototypeOf(o, null) && 0,
        (o) => Object.setPrototypeOf(o, { stranger: 1 }) && 0,
        (o, key) => ((o[key] = o), delete o[key]),
    ];
    const outcome = (deed, object, key, n) => {
        try {
            return String(deed(object, key, n));
        } catch (error) {
            return error.name;
        }
    };
    const parts = (l, m, all = [[l, m]]) => {
        for (const key of Object.keys(m)) {
            const part = m[key];
            if (part === null || typeof part !== "object" || all.some((pair) => pair[1] === part)) continue;
            all.push([l[key], part]);
            parts(l[key], part, all);
        }
        return all;
    };
    const change = (pairs, times) => {
        for (let i = 0; i < times; i++) {
            const [l, m] = pairs[random(pairs.length)];
            const keys = [...Object.keys(m), "foo", "bar"];
            const key = keys[random(keys.length)], deed = deeds[random(deeds.length)], n = random(1000);
            same(outcome(deed, l, key, n), outcome(deed, m, key, n), key, `outcome of ${deed}`);
            same(Object.keys(l).join("\n"), Object.keys(m).join("\n"), key, `keys after ${deed}`);
        }
        for (const [l, m] of pairs) {
            looks.state(l, m, "after");
            for (const key of Object.keys(m)) same(described(l, key), described(m, key), key, "descriptor after");
        }
    };

    walk(data, model, "data");
    if (random(2)) change([[data, model]], 1 + random(6));
    change(parts(data, model), random(12));
    // It may hold itself by now.
    same(outcome(JSON.stringify, data), outcome(JSON.stringify, model), "data", "JSON after");
    looks.forIn(data, model, "data");
    Reflect.set(data, "self", data);
});
