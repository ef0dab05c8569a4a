// What a Remora script can see: types for editors, held against the runtime by a test.
//
// In a script:  /// <reference path="./remora.d.ts" />
// and above a hook:  /** @param {Item} data */
//
// Helpers throw an Error that names helper, argument and cause; a missing required argument is a TypeError.
// Where an argument is Text, numbers and booleans are turned into text as JavaScript does it.

type Text = string | number | bigint | boolean;

/**
 * Called for each dissected item: define a function of this name and type in the script, or export one.
 * It has 1 s for each call, waits not counted.
 */
type onItemCaptured = (data: Item) => void | Promise<void>;

/** Called when a TCP stream ends, times out, or the capture does. */
type onStreamClosed = (info: ClosedStream) => void | Promise<void>;

/** Called for each packet, in batches; live, packets for which there is no room are dropped and counted. */
type onPacketCaptured = (info: PacketInfo) => void | Promise<void>;

/** Called when a person opens an item through the agent's API (docs/api.md); an object that it
 * returns is shown in its place. */
type onItemQueried = (data: Item) => Item | void | Promise<Item | void>;

/** Called after a job ran. `limit` 0 means for ever. */
type onJobPassed = (tag: string, cron: string, limit: number) => void | Promise<void>;

/** Called after a job ended in an error; `err` says which. */
type onJobFailed = (tag: string, cron: string, limit: number, err: string) => void | Promise<void>;

/**
 * Called with what happened to a pod of this node that is among the targets, and Kubernetes' own object: ADDED for those that are
 * there when the agent starts, too, and DELETED also for one that is a target no longer. Needs access to the Kubernetes API.
 */
type onPodEvent = (event: "ADDED" | "MODIFIED" | "DELETED", pod: Pod) => void | Promise<void>;

/** Called when a stream is over and all that is stored of it is in a capture file. */
type onPcapReady = (info: PcapFile) => void | Promise<void>;

/** A pod as the API has it, but for `metadata.managedFields`. The most useful fields; others are there as Kubernetes documents them. */
interface Pod {
  apiVersion: "v1";
  kind: "Pod";
  metadata: {
    name: string;
    namespace: string;
    uid: string;
    resourceVersion: string;
    creationTimestamp: string;
    /** Where it is being deleted. */
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences?: { kind: string; name: string; uid: string; [key: string]: any }[];
    [key: string]: any;
  };
  spec: {
    nodeName?: string;
    hostNetwork?: boolean;
    serviceAccountName?: string;
    containers: { name: string; image: string; [key: string]: any }[];
    [key: string]: any;
  };
  status: {
    /** Pending, Running, Succeeded, Failed or Unknown. */
    phase?: string;
    podIP?: string;
    podIPs?: { ip: string }[];
    hostIP?: string;
    startTime?: string;
    /** Why a container waits or ended, and how often it was started again. */
    containerStatuses?: {
      name: string; ready: boolean; restartCount: number; containerID?: string; state?: any; lastState?: any; [key: string]: any;
    }[];
    conditions?: { type: string; status: string; reason?: string; message?: string; [key: string]: any }[];
    reason?: string;
    message?: string;
    [key: string]: any;
  };
}

interface ClosedStream {
  /** 12 decimal digits. */
  stream: string;
  /** Who opened it. */
  src: { ip: string; port: string; name: string; namespace: string; pod?: string; service?: string };
  dst: { ip: string; port: string; name: string; namespace: string; pod?: string; service?: string };
  packets: number;
  /** On the wire, all headers included. */
  bytes: number;
  items: number;
  /** fin, reset, timeout, evicted, reused or capture-end. */
  reason: string;
}

interface PacketInfo {
  /** Milliseconds since the epoch. */
  timestamp: number;
  /** Bytes captured, and bytes on the wire. */
  captureLength: number;
  length: number;
  /** Whether fewer bytes were captured than there were on the wire. */
  truncated: boolean;
  /** Whether it is a fragment of an IP datagram. */
  fragmented: boolean;
}

interface PcapFile {
  stream: string;
  /** Stays for a while after the call; copy or send what is to stay longer. */
  path: string;
  /** Bytes. */
  size: number;
  packets: number;
}

/** A request with its response; one of the two may be missing, and then `error` says why. */
interface Item {
  /** Unique on the node. */
  id: string;
  /** Number among the items of its worker, from 0. */
  index: number;
  /** The TCP stream's number, 12 decimal digits: what `pcap.path` takes. */
  stream: string;
  node: { ip: string; name: string };
  worker: number;
  protocol: { name: string; version: string; abbr: string; longName: string; layer4: string };
  /** Whether the bytes were taken from inside TLS. */
  tls: boolean;
  /** Who sent the request. */
  src: Endpoint;
  /** Who answered it. */
  dst: Endpoint;
  /** Kubernetes namespace of the pod that is watched, the server first; else the server's or the client's. "" outside Kubernetes. */
  namespace: string;
  outgoing: boolean;
  /** Milliseconds since the epoch. */
  timestamp: number;
  /** RFC 3339 with nanoseconds. */
  startTime: string;
  /** Milliseconds from the first byte of the request to the last of the response; null where one of them is missing. */
  elapsedTime: number | null;
  /** Head and body as captured, in bytes; 0 where there is none. */
  requestSize: number;
  responseSize: number;
  request: HttpRequest | null;
  response: HttpResponse | null;
  anomalies: { type: string; msg: string }[];
  error: null | { type: "dissection" | "connection" | "timeout" | "pair-not-found" | "gap"; msg: string };
  capture: { source: "ebpf" | "tls" | "af_packet" | "pcap"; gaps: number; truncated: boolean };
  /** Set by `test.pass`. */
  passed: boolean;
  /** Set by `test.fail`. */
  failed: boolean;
}

interface Endpoint {
  ip: string;
  /** A string, as in Kubeshark. */
  port: string;
  /** The pod's or service's name where known, else the IP. */
  name: string;
  /** Of the pod, else of the service. */
  namespace: string;
  /** The pod at that end, where it is known. */
  pod?: string;
  /** As cgroups have it, also where the API is not asked; of a static pod the hash of its manifest. */
  podUid?: string;
  /** The service that was asked for by its address, or one that the pod is an endpoint of. */
  service?: string;
  /** In the machine's own pid namespace. The process that holds the connection, where the capture knows it for sure. */
  processId?: number;
  processName?: string;
  /** As the runtime's cgroup path has it: 64 hexadecimal digits, mostly. */
  containerId?: string;
  /** cgroup v2 id, where the capture knows it. */
  cgroupId?: number;
}

/** Order, case and repeats as they were sent. */
type HeaderList = { name: string; value: string }[];

/** Values by name: an array where a name is repeated. */
type Values = Record<string, string | string[]>;

/** A request's body. */
interface PostData {
  mimeType: string;
  /** Fields of a form, url-encoded or multipart; else empty. */
  params: { name: string; value?: string; fileName?: string; contentType?: string }[];
  /** "base64" where the body is no text, else "". */
  encoding: string;
  text: string;
  /** Whether `text` is not all of the body. */
  truncated: boolean;
}

interface HttpRequest {
  method: string;
  /** Absolute, put together from scheme, host and target. */
  url: string;
  /** The request-target as sent. */
  target: string;
  /** Without query. */
  path: string;
  pathSegments: string[];
  httpVersion: string;
  /** Repeated headers joined by ", ". Names in lower case are matched too. */
  headers: Record<string, string>;
  headersList: HeaderList;
  trailersList: HeaderList;
  /** Without redaction their values; by default "[REDACTED]" in their place. */
  cookies: Values;
  /** Names and values decoded. */
  queryString: Values;
  /** null where there is no body. */
  postData: PostData | null;
  headersSize: number;
  /** After transfer decoding, before content decoding. */
  bodySize: number;
  /** With --hash. */
  bodySha256?: string;
}

interface HttpResponse {
  status: number;
  statusText: string;
  httpVersion: string;
  /** 1xx responses that came before. */
  interim: { status: number; headersList: HeaderList }[];
  /** Repeated headers joined by ", ", set-cookie by a line feed. Names in lower case are matched too. */
  headers: Record<string, string>;
  headersList: HeaderList;
  trailersList: HeaderList;
  /** As `request.cookies`; attributes are in the headers. */
  cookies: Values;
  /** Bytes that are not text are base64, and `encoding` says so, else it is "". `size` is the true size even where `truncated`. */
  content: { size: number; mimeType: string; encoding: string; text: string; truncated: boolean };
  /** The Location header; "" without one. */
  redirectURL: string;
  headersSize: number;
  /** After transfer decoding, before content decoding. */
  bodySize: number;
  /** With --hash. */
  bodySha256?: string;
}

/** The variables of `--env` and `scripting.env`. Each is a global of its own, too. */
declare const env: Record<string, string | undefined>;

/** One log line a call; objects as JSON. */
declare const console: {
  debug(...values: unknown[]): void;
  error(...values: unknown[]): void;
  log(...values: unknown[]): void;
  warn(...values: unknown[]): void;
};

/** Files of the script's own data folder (256 MiB at most); files of `pcap.path` may be read, copied and sent. */
declare const file: {
  append(path: Text, text: Text): void;
  copy(src: Text, dst: Text): void;
  /** A folder with all in it. What is not there is no error. */
  delete(path: Text): void;
  /** Parents too. */
  mkdir(path: Text): void;
  /** Path of a new folder. */
  mkdirTemp(name?: Text, dir?: Text): string;
  move(old: Text, new_: Text): void;
  read(path: Text): string;
  /** Path of a new .tar.gz of a folder. */
  tar(dir: Text): string;
  /** Path of a new empty file; "" as dir is the data folder, "" as extension is txt. */
  temp(name: Text, dir: Text, extension: Text): string;
  /** Creates or truncates. */
  write(path: Text, text: Text): void;
};

declare const hash: {
  /** In hexadecimal, of the text as UTF-8. */
  sha256(text: Text): string;
};

/** Hooks with a filter (KFL, docs/kfl.md) that is evaluated outside the script: items that do not match cost it nothing. */
declare const hooks: {
  /**
   * At the script's top level only; up to 63 in a script. Without a filter every item matches. `sample`: of those that
   * match a fraction (0.1), or one in N (10). `queue`: how many of its items may wait; past it the newest is dropped
   * (live; a replay waits).
   */
  on(name: "itemCaptured" | "onItemCaptured", options: HookOptions, fn: onItemCaptured): void;
  on(name: "itemCaptured" | "onItemCaptured", fn: onItemCaptured): void;
};

interface HookOptions {
  filter?: string;
  sample?: number;
  queue?: number;
}

/** Filters in CEL, with Kubeshark's KFL2 names and the item's own paths: docs/kfl.md. */
declare const kfl: {
  /** Whether an item, or a plain object of its shape, matches. Throws where the query is none. */
  match(query: Text, data: object): boolean;
  /** Whether the query is one; logs why not, unless quiet. */
  validate(query: Text, quiet?: boolean): boolean;
};

/**
 * Functions called at times of a cron pattern, on the script's own thread, between items. Six fields, seconds first, UTC:
 * "0 30 9 * * MON-FRI" is half past nine on working days. A time missed while the thread was busy is made up for once.
 * At most 100 jobs; they end with the script, and an edit schedules them anew.
 */
declare const jobs: {
  /** Tags, in the order in which they were scheduled. */
  list(): string[];
  /** What is not there is no error. */
  remove(tag: Text): void;
  removeAll(): void;
  /** Runs a job as soon as the call at hand has returned; that counts towards its limit. */
  run(tag: Text): void;
  runAll(): void;
  /** The same tag replaces. `limit`: how often it may run, 0 (the default) for ever; `args` are handed to `fn`. */
  schedule(tag: Text, cron: Text, fn: (...args: any[]) => unknown, limit?: number, ...args: unknown[]): void;
  scheduler: {
    isRunning(): boolean;
    /** What was missed while it stood still is not made up for. */
    start(): void;
    /** Jobs then run only by `jobs.run` and `jobs.runAll`. */
    stop(): void;
  };
};

declare const pcap: {
  /** Which addresses that traffic showed got which names, by Unix second; the last 10,000 changes. */
  nameResolutionHistory(): Record<string, Record<string, string>>;
  /** Path of a finished capture file that holds the stream's packets so far, this item's included. */
  /**
   * With `redact`: of a copy in which the values of the redacted headers (those of items) are overwritten by `*` in place, in
   * every packet. Bodies, and protocols that are not read, stay as they are.
   */
  path(stream: Text, options?: { redact?: boolean }): string;
  /** Path of one capture file of all that is stored, or of the streams named, in the order of time. */
  snapshot(streams?: Text | Text[]): string;
};

declare const prometheus: {
  /**
   * Sets a value that the agent publishes, with a label `script`. `type`: 1 counter, 2 gauge, 3 untyped. The value is what is
   * said last, counters too: keep the sum yourself. At most 1,000 series a script.
   */
  metric(name: Text, help: Text, type: 1 | 2 | 3, value: number, labels?: Record<string, Text>): void;
};

declare const test: {
  /** Sets `failed`. */
  fail(data: Item): Item;
  /** Sets `passed`. */
  pass(data: Item): Item;
};

declare const utils: {
  /** JSON, or an object, as YAML; up to 1 MiB. */
  json2Yaml(text: Text | object): string;
  nodeName(): string;
};

/** Of the alerts of one script, destination and `key`, one is sent in each `window` (seconds, 60 if not said); the next says how many were held back. */
interface Fold {
  key: Text;
  window?: number;
}

/** Messages are written down, then sent by the agent. A folded alert returns the id of the one that it is folded under. */
declare const vendor: {
  /** By an incoming webhook; returns the delivery's id. */
  slack(webhookUrl: Text, pretext: Text, text: Text, color: Text, options?: Fold): string;
  /**
   * By a bot; returns the delivery's id. `fields` are {title: value}, an empty value is shown as "-"; `files` are
   * {name shown: path}, copied before the call returns.
   */
  slackBot(
    token: Text, channelId: Text, pretext: Text, text: Text, color: Text,
    fields?: Record<string, unknown>, files?: Record<string, Text>, options?: Fold,
  ): string;
  /** Waits, 10 s at most; returns the answer's body whatever its status, throws on no answer. Objects are sent as JSON. */
  webhook(method: Text, url: Text, body: Text | object, headers?: Record<string, Text>): string;
  /** As `webhook`, form-encoded. */
  webhookForm(method: Text, url: Text, fields: Record<string, unknown>, headers?: Record<string, Text>): string;
  /**
   * A document for Elasticsearch or OpenSearch; returns its id. `index` is an index or a data stream. `data` gets `@timestamp` if
   * it has none: from `startTime` or `timestamp`, as items have them. In place of the URL there may be a `cloudID`.
   * `apiKey` is "id:key" or that in base64; `certificateFingerprint` the SHA-256 of the certificate to trust.
   */
  elastic(
    url: Text | null, index: Text, data: Text | object, username?: Text, password?: Text, cloudID?: Text, apiKey?: Text,
    serviceToken?: Text, certificateFingerprint?: Text,
  ): string;
  /** An event for Splunk's HTTP Event Collector; returns the delivery's id. */
  splunk(url: Text, token: Text, event: Text | object, options?: SplunkOptions): string;
  /**
   * A point for InfluxDB; returns the delivery's id. `data` are the fields: numbers are floating-point, objects laid out
   * as "a.b". Its time is that of `startTime` or `timestamp`, else the present.
   */
  influxdb(
    url: Text, token: Text, organization: Text, bucket: Text, measurement: Text, data: object, tags?: Record<string, unknown>,
  ): string;
  s3: {
    /**
     * The file becomes an object; returns the URL it will have. Its key is the node's name and the file's, or with
     * "bucket/some/folder" that folder and the file's name. Without keys those of the environment or the role of the pod are used.
     */
    put(bucket: Text, path: Text, region: Text, keyID?: Text, accessKey?: Text): string;
  };
  gcs: {
    /** As `s3.put`; `saKeyObj` is the key of a service account, as an object or JSON. */
    put(bucket: Text, path: Text, saKeyObj: object | Text): string;
  };
};

interface SplunkOptions {
  index?: Text;
  sourcetype?: Text;
  /** Default: remora. */
  source?: Text;
  /** Default: the node's name. */
  host?: Text;
  /** To the raw endpoint: Splunk parts the text into events. */
  raw?: boolean;
  /** A GUID; default: one of the agent's own. */
  channel?: Text;
}
