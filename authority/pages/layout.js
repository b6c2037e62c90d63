// The keyboard layouts of guests: which keys type a character. layouts/ has their tables.

import keysyms from "./novnc/core/input/keysymdef.js";

/** The layouts that a guest may have, by the names of layouts/. */
export const LAYOUTS = [
    "us", "uk", "de", "ch", "fr", "be", "es", "latam", "it", "pt", "pt-br", "pl", "tr-q", "ru", "jp", "kr",
];

/**
 * One press of a key with its modifiers.
 *
 * @typedef {{code: string, shift: boolean, altGr: boolean}} Stroke
 * @typedef {{keys: Record<string, string[]>, dead: Record<string, string[]>}} Table see layouts/generate
 */

// Keys that a US keyboard does not have. Their scan codes exist, but no keysym of a US keyboard means them.
const NOT_ON_US_KEYBOARD = new Set(["IntlBackslash", "IntlRo", "IntlYen"]);

// What is pressed is chosen by the least cost: the guest's system may give AltGr other characters than X.Org does,
// so a key without it comes first, and what two keys make comes before what only X.Org has with Shift and AltGr.
const LEVEL_COST = [0, 1, 4, 8];
const DEAD_KEY_COST = 5;
const FOREIGN_KEY_COST = 2;

/** A layout of a guest. */
export class Layout {
    /**
     * @param {string} name
     * @param {Table} table
     * @param {Table} us the table of the US layout, by whose keysyms a console server knows keys
     */
    constructor(name, table, us) {
        this.name = name;
        this.us = us;
        /** @type {Map<string, {strokes: Stroke[], cost: number}>} */
        this.withForeignKeys = strokesOfTable(table, true);
        /** @type {Map<string, {strokes: Stroke[], cost: number}>} */
        this.withUsKeys = strokesOfTable(table, false);
    }

    /**
     * The keys that type a character in a guest with this layout.
     *
     * @param {string} character
     * @param {boolean} scanCodes whether the server takes scan codes, so that also keys can be pressed that a US
     *     keyboard does not have
     * @returns {Stroke[] | null} null: no keys of the layout type it
     */
    strokesOf(character, scanCodes) {
        return (scanCodes ? this.withForeignKeys : this.withUsKeys).get(character)?.strokes ?? null;
    }

    /** @param {Stroke} stroke */
    keysymOf({ code, shift }) {
        return usKeysym(this.us, code, shift) ?? 0;
    }
}

/**
 * The keysym of the key at this place of a US keyboard.
 *
 * @param {Table} us
 * @param {string | null} code a `KeyboardEvent.code`
 * @param {boolean} shift
 * @returns {number | null} null for a key that types nothing, or that a US keyboard does not have
 */
export function usKeysym(us, code, shift) {
    if (code === null || NOT_ON_US_KEYBOARD.has(code)) {
        return null;
    }
    const [plain, shifted = plain] = us.keys[code] ?? [];
    const character = shift ? shifted : plain;
    return character ? keysyms.lookup(/** @type {number} */ (character.codePointAt(0))) : null;
}

/**
 * @param {Table} table
 * @param {boolean} foreignKeys
 */
function strokesOfTable({ keys, dead }, foreignKeys) {
    /** @type {Map<string, {strokes: Stroke[], cost: number}>} characters, and dead keys by their names */
    const found = new Map();
    /**
     * @param {string} typed
     * @param {Stroke[]} strokes
     * @param {number} cost
     */
    const offer = (typed, strokes, cost) => {
        const known = found.get(typed);
        if (known === undefined || cost < known.cost) {
            found.set(typed, { strokes, cost });
        }
    };
    for (const [code, levels] of Object.entries(keys)) {
        const foreign = NOT_ON_US_KEYBOARD.has(code);
        if (foreign && !foreignKeys) {
            continue;
        }
        levels.forEach((typed, level) => {
            if (typed !== "") {
                const stroke = { code, shift: level % 2 === 1, altGr: level >= 2 };
                offer(typed, [stroke], LEVEL_COST[level] + (foreign ? FOREIGN_KEY_COST : 0));
            }
        });
    }
    for (const [name, pairs] of Object.entries(dead)) {
        const key = found.get(name);
        if (key === undefined) {
            continue;
        }
        for (const pair of pairs) {
            const [second, made = second] = pair;
            // A single character is what the dead key makes when it is pressed again.
            const next = found.get(made === second ? name : second);
            if (next) {
                offer(made, [...key.strokes, ...next.strokes], DEAD_KEY_COST + key.cost + next.cost);
            }
        }
    }
    return found;
}

/** @type {Map<string, Promise<Table>>} */
const tables = new Map();

/**
 * @param {string} name one of `LAYOUTS`
 * @returns {Promise<Layout>} rejects when its table does not arrive
 */
export async function loadLayout(name) {
    const [table, us] = await Promise.all([loadTable(name), loadTable("us")]);
    return new Layout(name, table, us);
}

/**
 * @param {string} name
 * @returns {Promise<Table>}
 */
export function loadTable(name) {
    let table = tables.get(name);
    if (table === undefined) {
        table = fetchTable(name);
        // The next one who asks tries again.
        table.catch(() => tables.delete(name));
        tables.set(name, table);
    }
    return table;
}

/** @param {string} name */
async function fetchTable(name) {
    const response = await fetch(`layouts/${name}.json`);
    if (!response.ok) {
        throw new Error(`layouts/${name}.json: HTTP status ${response.status}`);
    }
    return response.json();
}
