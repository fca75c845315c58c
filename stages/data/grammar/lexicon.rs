//! The words of the grammar, and what it knows of their meaning.

/// A noun's singular and plural.
pub(super) type Number = [&'static str; 2];

#[derive(Debug, PartialEq)]
pub(super) struct Noun {
    pub(super) own: Number,
    /// The kind that it is one of.
    pub(super) kind: Number,
    /// Another name for the same.
    pub(super) alias: Option<Number>,
}

/// A verb's base form, third person, past and participle.
pub(super) type Forms = [&'static str; 4];

#[derive(Debug, PartialEq)]
pub(super) struct Verb {
    pub(super) own: Forms,
    pub(super) alias: Option<Forms>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Adjective {
    pub(super) own: &'static str,
    pub(super) alias: Option<&'static str>,
    pub(super) opposite: &'static str,
}

/// What may be done to which nouns, and how those may be.
#[derive(Debug, PartialEq)]
pub(super) struct Realm {
    pub(super) nouns: &'static [Noun],
    pub(super) verbs: &'static [Verb],
    pub(super) adjectives: &'static [Adjective],
}

pub(super) static REALMS: [Realm; 3] = [
    Realm { nouns: PEOPLE, verbs: TO_PEOPLE, adjectives: OF_PEOPLE },
    Realm { nouns: ANIMALS, verbs: TO_ANIMALS, adjectives: OF_THINGS },
    Realm { nouns: OBJECTS, verbs: TO_OBJECTS, adjectives: OF_THINGS },
];

const PERSON: Number = ["person", "people"];
const DOCTOR: Number = ["doctor", "doctors"];
const MUSICIAN: Number = ["musician", "musicians"];
const WRITER: Number = ["writer", "writers"];
const ATHLETE: Number = ["athlete", "athletes"];
const WORKER: Number = ["worker", "workers"];
const SCIENTIST: Number = ["scientist", "scientists"];
const CHILD: Number = ["child", "children"];
const DOG: Number = ["dog", "dogs"];
const BIRD: Number = ["bird", "birds"];
const HORSE: Number = ["horse", "horses"];
const VEHICLE: Number = ["vehicle", "vehicles"];
const INSTRUMENT: Number = ["instrument", "instruments"];
const FLOWER: Number = ["flower", "flowers"];
const TOOL: Number = ["tool", "tools"];
const FURNITURE: Number = ["piece of furniture", "pieces of furniture"];
const BOOK: Number = ["book", "books"];
const GARMENT: Number = ["garment", "garments"];
const ARTWORK: Number = ["work of art", "works of art"];
const DEVICE: Number = ["device", "devices"];

const fn noun(one: &'static str, many: &'static str, kind: Number) -> Noun {
    Noun { own: [one, many], kind, alias: None }
}

const fn named(one: &'static str, many: &'static str, kind: Number, alias: Number) -> Noun {
    Noun { own: [one, many], kind, alias: Some(alias) }
}

const fn verb(base: &'static str, third: &'static str, past: &'static str, participle: &'static str) -> Verb {
    Verb { own: [base, third, past, participle], alias: None }
}

/// Two verbs of one meaning.
const fn twin(own: Forms, alias: Forms) -> Verb {
    Verb { own, alias: Some(alias) }
}

const fn adjective(own: &'static str, opposite: &'static str) -> Adjective {
    Adjective { own, alias: None, opposite }
}

const fn shaded(own: &'static str, alias: &'static str, opposite: &'static str) -> Adjective {
    Adjective { own, alias: Some(alias), opposite }
}

pub(super) const PEOPLE: &[Noun] = &[
    noun("surgeon", "surgeons", DOCTOR),
    noun("dentist", "dentists", DOCTOR),
    noun("violinist", "violinists", MUSICIAN),
    noun("pianist", "pianists", MUSICIAN),
    noun("drummer", "drummers", MUSICIAN),
    noun("poet", "poets", WRITER),
    noun("novelist", "novelists", WRITER),
    noun("swimmer", "swimmers", ATHLETE),
    noun("boxer", "boxers", ATHLETE),
    noun("plumber", "plumbers", WORKER),
    noun("carpenter", "carpenters", WORKER),
    noun("chemist", "chemists", SCIENTIST),
    noun("biologist", "biologists", SCIENTIST),
    noun("girl", "girls", CHILD),
    noun("boy", "boys", CHILD),
    noun("senator", "senators", PERSON),
    noun("farmer", "farmers", PERSON),
    noun("nurse", "nurses", PERSON),
    noun("waiter", "waiters", PERSON),
    named("lawyer", "lawyers", PERSON, ["attorney", "attorneys"]),
    named("teacher", "teachers", PERSON, ["instructor", "instructors"]),
    named("thief", "thieves", PERSON, ["robber", "robbers"]),
    named("actor", "actors", PERSON, ["performer", "performers"]),
    named("guest", "guests", PERSON, ["visitor", "visitors"]),
    named("policeman", "policemen", PERSON, ["police officer", "police officers"]),
];

const ANIMALS: &[Noun] = &[
    noun("poodle", "poodles", DOG),
    noun("terrier", "terriers", DOG),
    noun("beagle", "beagles", DOG),
    noun("sparrow", "sparrows", BIRD),
    noun("eagle", "eagles", BIRD),
    noun("parrot", "parrots", BIRD),
    noun("pony", "ponies", HORSE),
    noun("stallion", "stallions", HORSE),
    named("rabbit", "rabbits", ["animal", "animals"], ["bunny", "bunnies"]),
    named("donkey", "donkeys", ["animal", "animals"], ["mule", "mules"]),
];

const OBJECTS: &[Noun] = &[
    named("car", "cars", VEHICLE, ["automobile", "automobiles"]),
    named("bicycle", "bicycles", VEHICLE, ["bike", "bikes"]),
    noun("truck", "trucks", VEHICLE),
    noun("tractor", "tractors", VEHICLE),
    named("violin", "violins", INSTRUMENT, ["fiddle", "fiddles"]),
    noun("guitar", "guitars", INSTRUMENT),
    noun("trumpet", "trumpets", INSTRUMENT),
    noun("rose", "roses", FLOWER),
    noun("tulip", "tulips", FLOWER),
    noun("hammer", "hammers", TOOL),
    noun("drill", "drills", TOOL),
    named("sofa", "sofas", FURNITURE, ["couch", "couches"]),
    noun("chair", "chairs", FURNITURE),
    noun("novel", "novels", BOOK),
    noun("dictionary", "dictionaries", BOOK),
    named("coat", "coats", GARMENT, ["jacket", "jackets"]),
    noun("sweater", "sweaters", GARMENT),
    named("statue", "statues", ARTWORK, ["sculpture", "sculptures"]),
    noun("portrait", "portraits", ARTWORK),
    named("phone", "phones", DEVICE, ["telephone", "telephones"]),
    noun("camera", "cameras", DEVICE),
];

pub(super) const TO_PEOPLE: &[Verb] = &[
    twin(["help", "helps", "helped", "helped"], ["assist", "assists", "assisted", "assisted"]),
    twin(["call", "calls", "called", "called"], ["phone", "phones", "phoned", "phoned"]),
    twin(["greet", "greets", "greeted", "greeted"], ["welcome", "welcomes", "welcomed", "welcomed"]),
    twin(["praise", "praises", "praised", "praised"], ["commend", "commends", "commended", "commended"]),
    twin(["hire", "hires", "hired", "hired"], ["employ", "employs", "employed", "employed"]),
    twin(["warn", "warns", "warned", "warned"], ["alert", "alerts", "alerted", "alerted"]),
    twin(["scold", "scolds", "scolded", "scolded"], ["reprimand", "reprimands", "reprimanded", "reprimanded"]),
    twin(["push", "pushes", "pushed", "pushed"], ["shove", "shoves", "shoved", "shoved"]),
    twin(
        ["recognize", "recognizes", "recognized", "recognized"],
        ["identify", "identifies", "identified", "identified"],
    ),
    verb("thank", "thanks", "thanked", "thanked"),
    verb("visit", "visits", "visited", "visited"),
    verb("invite", "invites", "invited", "invited"),
    verb("trust", "trusts", "trusted", "trusted"),
    verb("teach", "teaches", "taught", "taught"),
];

const TO_ANIMALS: &[Verb] = &[
    twin(["chase", "chases", "chased", "chased"], ["pursue", "pursues", "pursued", "pursued"]),
    twin(["rescue", "rescues", "rescued", "rescued"], ["save", "saves", "saved", "saved"]),
    twin(["watch", "watches", "watched", "watched"], ["observe", "observes", "observed", "observed"]),
    twin(["buy", "buys", "bought", "bought"], ["purchase", "purchases", "purchased", "purchased"]),
    verb("feed", "feeds", "fed", "fed"),
    verb("wash", "washes", "washed", "washed"),
    verb("photograph", "photographs", "photographed", "photographed"),
];

pub(super) const TO_OBJECTS: &[Verb] = &[
    twin(["buy", "buys", "bought", "bought"], ["purchase", "purchases", "purchased", "purchased"]),
    twin(["repair", "repairs", "repaired", "repaired"], ["fix", "fixes", "fixed", "fixed"]),
    twin(["find", "finds", "found", "found"], ["discover", "discovers", "discovered", "discovered"]),
    twin(["choose", "chooses", "chose", "chosen"], ["select", "selects", "selected", "selected"]),
    twin(["hide", "hides", "hid", "hidden"], ["conceal", "conceals", "concealed", "concealed"]),
    twin(["inspect", "inspects", "inspected", "inspected"], ["examine", "examines", "examined", "examined"]),
    twin(["lift", "lifts", "lifted", "lifted"], ["raise", "raises", "raised", "raised"]),
    verb("steal", "steals", "stole", "stolen"),
    verb("sell", "sells", "sold", "sold"),
    verb("borrow", "borrows", "borrowed", "borrowed"),
    verb("break", "breaks", "broke", "broken"),
    verb("carry", "carries", "carried", "carried"),
];

/// Verbs that take no object.
pub(super) const ALONE: &[Verb] = &[
    verb("laugh", "laughs", "laughed", "laughed"),
    verb("sleep", "sleeps", "slept", "slept"),
    verb("arrive", "arrives", "arrived", "arrived"),
    verb("sneeze", "sneezes", "sneezed", "sneezed"),
    verb("smile", "smiles", "smiled", "smiled"),
    verb("vanish", "vanishes", "vanished", "vanished"),
    verb("faint", "faints", "fainted", "fainted"),
    verb("hesitate", "hesitates", "hesitated", "hesitated"),
];

const OF_PEOPLE: &[Adjective] = &[
    shaded("old", "elderly", "young"),
    shaded("rich", "wealthy", "poor"),
    shaded("happy", "cheerful", "sad"),
    shaded("angry", "furious", "calm"),
    shaded("clever", "smart", "stupid"),
    shaded("brave", "courageous", "timid"),
    adjective("tall", "short"),
    adjective("polite", "rude"),
];

const OF_THINGS: &[Adjective] = &[
    shaded("large", "big", "small"),
    shaded("beautiful", "lovely", "ugly"),
    shaded("strange", "odd", "ordinary"),
    shaded("expensive", "costly", "cheap"),
    shaded("dirty", "filthy", "clean"),
    adjective("black", "white"),
    adjective("heavy", "light"),
];

pub(super) const PLACES: &[&str] = &[
    "in the garden",
    "near the station",
    "at the market",
    "behind the school",
    "in the kitchen",
    "beside the river",
    "at the airport",
    "in the library",
    "outside the museum",
    "in the park",
    "on the bridge",
    "at the hotel",
];

pub(super) const TIMES: &[&str] = &[
    "yesterday",
    "on Monday",
    "last week",
    "this morning",
    "in June",
    "two days ago",
    "last summer",
    "before lunch",
    "after midnight",
    "on Friday evening",
];

pub(super) const NUMERALS: &[&str] = &["two", "three", "four", "five", "six"];
