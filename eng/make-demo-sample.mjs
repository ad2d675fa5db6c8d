// Makes src/UsageMonitor.Server/Demo/sample.ndjson.gz: the history of the demo's three invented enterprises.
//
//   node eng/make-demo-sample.mjs
//
// The same seed gives the same bytes. A section begins with a line that describes an enterprise; each line after it is a
// stretch of work: somebody used a feature `count` times, about every `every` seconds, from the local `time` of a `day` on.
// Day 0 is a Sunday and the last day; the platform moves it to the Sunday of the current week and leaves out the future.

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const seed = 20_261_123;
const days = 97; // 90 whole days before today, whichever day of the week today is
const bytesMax = 150 * 1024;
const target = fileURLToPath(new URL("../src/UsageMonitor.Server/Demo/sample.ndjson.gz", import.meta.url));

// mulberry32: small, fast and the same everywhere.
let state = seed;
const random = () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
};
const between = (low, high) => low + Math.floor(random() * (high - low + 1));
const pick = (list) => list[Math.floor(random() * list.length)];
const weighted = (entries) => {
  let rest = random() * entries.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [value, weight] of entries) {
    rest -= weight;
    if (rest <= 0) return value;
  }
  return entries[0][0];
};

// A feature: how often it is chosen, how many uses make a stretch, the seconds between them, and what it records.
const feature = (weight, uses, seconds, more = {}) => ({ weight, uses, seconds, ...more });

const enterprises = [
  {
    enterpriseId: "0de30001-0000-5000-8000-000000000001",
    name: "Quillmere Analytics",
    timeZone: "America/New_York",
    adminEmail: "admin@quillmere.example",
    people: 64,
    workweek: [1, 1, 1, 1, 0.8, 0.06, 0.08], // Monday first
    hours: { 7: 1, 8: 4, 9: 9, 10: 10, 11: 9, 12: 5, 13: 8, 14: 10, 15: 9, 16: 8, 17: 5, 18: 2, 20: 1, 22: 0.3 },
    features: {
      "reports.run": feature(22, [8, 26], [40, 110], { properties: [{ rows: 1200 }, { rows: 80 }, { rows: 24000 }] }),
      "dashboards.open": feature(26, [6, 22], [30, 90], {}),
      search: feature(20, [10, 34], [12, 50], { properties: [{ hits: 12 }, { hits: 0 }, { hits: 140 }] }),
      "queries.edit": feature(12, [10, 30], [45, 120], {}),
      "exports.csv": feature(7, [2, 8], [60, 200], { type: "export", properties: [{ format: "csv" }, { format: "xlsx" }] }),
      "alerts.configure": feature(3, [2, 6], [60, 240], { type: "change" }),
      "sharing.invite": feature(3, [1, 5], [30, 200], { type: "change" }),
      "chat.summarise": feature(16, [6, 24], [25, 80], { launchedOn: -44, properties: [{ model: "small" }, { model: "large" }] }),
      "billing.view": feature(2, [1, 4], [60, 300], {}),
    },
    outage: -25, // a Wednesday
    burst: { day: -10, feature: "exports.csv", factor: 12 },
  },
  {
    enterpriseId: "0de30002-0000-5000-8000-000000000002",
    name: "Sahyadri Parcel Works",
    timeZone: "Asia/Kolkata",
    adminEmail: "admin@sahyadri-parcel.example",
    people: 68,
    workweek: [1, 1, 1, 1, 1, 0.7, 0.12],
    hours: { 6: 2, 7: 5, 8: 8, 9: 10, 10: 10, 11: 8, 12: 7, 13: 5, 14: 8, 15: 9, 16: 9, 17: 8, 18: 5, 19: 3, 21: 1, 2: 0.3 },
    features: {
      "shipments.track": feature(30, [10, 40], [15, 60], { properties: [{ carrier: "road" }, { carrier: "rail" }, { carrier: "air" }] }),
      "labels.print": feature(22, [12, 48], [10, 40], { properties: [{ size: "A6" }, { size: "A5" }] }),
      "routes.plan": feature(12, [4, 14], [60, 200], { properties: [{ stops: 9 }, { stops: 24 }] }),
      "pickups.schedule": feature(12, [5, 18], [40, 120], { type: "change" }),
      "invoices.export": feature(6, [2, 9], [60, 180], { type: "export", properties: [{ format: "pdf" }, { format: "csv" }] }),
      "customers.search": feature(14, [6, 24], [15, 60], {}),
      "scanner.sync": feature(10, [8, 30], [30, 60], { type: "sync" }),
      "claims.file": feature(2, [1, 4], [120, 400], { type: "change" }),
      "eta.predict": feature(14, [6, 26], [20, 70], { launchedOn: -58, properties: [{ model: "v1" }, { model: "v2" }] }),
      "reports.run": feature(5, [3, 10], [60, 160], {}),
    },
    outage: -19, // a Tuesday
    burst: { day: -33, feature: "labels.print", factor: 6 },
  },
  {
    enterpriseId: "0de30003-0000-5000-8000-000000000003",
    name: "Gower Reef Field Station",
    timeZone: "Australia/Lord_Howe",
    adminEmail: "admin@gower-reef.example",
    people: 54,
    workweek: [1, 1, 1, 0.9, 0.9, 0.5, 0.4],
    hours: { 4: 1, 5: 4, 6: 8, 7: 8, 8: 6, 9: 6, 10: 6, 11: 5, 13: 5, 14: 6, 15: 6, 16: 8, 17: 9, 18: 6, 19: 3, 20: 2, 23: 0.5 },
    features: {
      "observations.add": feature(28, [8, 36], [40, 120], { type: "change", properties: [{ taxon: "bird" }, { taxon: "fish" }, { taxon: "coral" }] }),
      "species.lookup": feature(18, [6, 24], [15, 60], {}),
      "tides.view": feature(14, [3, 10], [30, 120], {}),
      "sensors.read": feature(18, [14, 48], [20, 60], { type: "sync", properties: [{ sensor: "buoy" }, { sensor: "mast" }] }),
      "photos.upload": feature(10, [6, 32], [10, 40], { type: "upload" }),
      "maps.draw": feature(8, [6, 22], [30, 100], {}),
      "datasets.export": feature(4, [1, 6], [90, 300], { type: "export", properties: [{ format: "csv" }, { format: "netcdf" }] }),
      "photos.identify": feature(14, [6, 28], [15, 50], { launchedOn: -51, properties: [{ sure: true }, { sure: false }] }),
    },
    outage: -40, // a Tuesday
    burst: { day: -16, feature: "sensors.read", factor: 5 },
  },
];

const givenNames =
  "ada amir ana arjun asha ben bo carla chen dana devi eli emeka fay femi gita hana hugo ines isaac jaya jo kai karim lena leo lin mara max mei milo mira nadia nils noor omar otto pia priya quinn ravi rosa sam sana tara theo tuva uma vera vik wren yara yusuf zoe".split(" ");
const familyNames =
  "abbey basu cole dias ekman fox garg hale iyer jain kent lund mora nair obi patil quist rao sato tran udo vance webb xu young zorn".split(" ");

function people(count) {
  const names = new Set();
  while (names.size < count) names.add(`${pick(givenNames)}.${pick(familyNames)}`);
  return [...names].map((name, index) => {
    const kind = index < 5 ? "power" : weighted([["steady", 52], ["part-time", 16], ["occasional", 14], ["newcomer", 12], ["churned", 8]]);
    return {
      name,
      stretches: { power: 3.4, steady: 1.9, "part-time": 1.8, occasional: 1, newcomer: 1.8, churned: 1.6 }[kind],
      comes: { power: 0.97, steady: 0.88, "part-time": 0.45, occasional: 0.13, newcomer: 0.8, churned: 0.8 }[kind],
      from: kind === "newcomer" ? between(-60, -8) : kind === "steady" && random() < 0.2 ? between(-90, -70) : -days,
      until: kind === "churned" ? between(-75, -20) : 0,
      weekdays: kind === "part-time" ? new Set([between(0, 4), between(0, 4), between(0, 4)]) : null,
      taste: () => 0.3 + random() * 1.7,
    };
  });
}

function stretchesOf(enterprise) {
  const staff = people(enterprise.people);
  for (const person of staff) {
    person.features = Object.entries(enterprise.features).map(([name, it]) => [name, it.weight * person.taste()]);
  }
  const hours = Object.entries(enterprise.hours).map(([hour, weight]) => [Number(hour), weight]);
  const lines = [];
  for (let day = 1 - days; day <= 0; day++) {
    const weekday = ((day % 7) + 13) % 7; // day 0 is a Sunday, which is 6
    const growth = 0.72 + (0.5 * (day + days)) / days;
    const openness = day === enterprise.outage ? 0.04 : enterprise.workweek[weekday] * growth * (0.9 + random() * 0.2);
    const today = [];
    for (const person of staff) {
      if (day < person.from || day > person.until || (person.weekdays && !person.weekdays.has(weekday))) continue;
      if (random() > person.comes * Math.min(1, openness)) continue;
      const rush = day === enterprise.burst.day ? 1.9 : 1;
      const stretches = Math.max(1, Math.round(person.stretches * openness * rush * (0.6 + random() * 0.8)));
      for (let i = 0; i < stretches; i++) {
        const name = weighted(
          person.features
            .filter(([name]) => day >= (enterprise.features[name].launchedOn ?? -days))
            .map(([name, weight]) => {
              const launched = enterprise.features[name].launchedOn;
              const adoption = launched === undefined ? 1 : Math.min(1, 0.2 + (day - launched) / 30);
              const burst = day === enterprise.burst.day && name === enterprise.burst.feature ? enterprise.burst.factor : 1;
              return [name, weight * adoption * burst];
            }),
        );
        const it = enterprise.features[name];
        const minute = weighted(hours) * 60 + 5 * between(0, 11);
        const line = {
          day,
          time: `${String(Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`,
          user: person.name,
          feature: name,
          count: between(it.uses[0], 3 * it.uses[1]),
          every: Math.round(between(...it.seconds) / 5) * 5,
        };
        if (it.type) line.type = it.type;
        if (it.properties) line.properties = pick(it.properties);
        today.push(line);
      }
    }
    lines.push(...today.sort((one, other) => (one.user < other.user ? -1 : one.user > other.user ? 1 : one.time < other.time ? -1 : 1)));
  }
  return lines;
}

const lines = [];
for (const enterprise of enterprises) {
  const { enterpriseId, name, timeZone, adminEmail } = enterprise;
  const stretches = stretchesOf(enterprise);
  lines.push({ enterpriseId, name, timeZone, adminEmail }, ...stretches);
  const events = stretches.reduce((sum, stretch) => sum + stretch.count, 0);
  console.log(`${name}: ${stretches.length} stretches, ${events} events, ${new Set(stretches.map((s) => s.user)).size} people`);
}

const packed = gzipSync(lines.map((line) => JSON.stringify(line) + "\n").join(""), { level: 9 });
packed[9] = 255; // the operating system that packed it says nothing
if (packed.length > bytesMax) throw new Error(`${packed.length} bytes are more than ${bytesMax}`);
writeFileSync(target, packed);
console.log(`${lines.length} lines, ${packed.length} bytes: ${target}`);
