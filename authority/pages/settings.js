// What a person has set, kept in the browser; and what the operator of the gateway has set or locked.

import { LANGUAGES } from "./language.js";
import { LAYOUTS } from "./layout.js";

/**
 * @typedef {"language" | "theme" | "keyboard" | "layout" | "speed" | "resize" | "quality" | "compression" | "bell" |
 *           "ask_before_closing"} Name
 * @typedef {{values: readonly string[], usual: string, perMachine?: true}} Setting `usual`: unless something else is
 *     set; `perMachine`: kept for each machine, since it is about the guest
 */

const LEVELS = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/** @type {Record<Name, Setting>} */
export const SETTINGS = {
    language: { values: ["auto", ...LANGUAGES], usual: "auto" },
    theme: { values: ["auto", "dark", "light"], usual: "auto" },
    keyboard: { values: ["keysyms", "positions"], usual: "keysyms", perMachine: true },
    layout: { values: LAYOUTS, usual: "us", perMachine: true },
    speed: { values: ["slow", "normal", "fast"], usual: "normal", perMachine: true },
    resize: { values: ["scale", "off", "remote"], usual: "scale" },
    quality: { values: LEVELS, usual: "6" },
    compression: { values: LEVELS, usual: "2" },
    bell: { values: ["yes", "no"], usual: "yes" },
    ask_before_closing: { values: ["yes", "no"], usual: "yes" },
};

/** @type {readonly Name[]} */
export const NAMES = /** @type {Name[]} */ (Object.keys(SETTINGS));

/**
 * What the operator has set in `[page]` of the authority's configuration.
 *
 * @typedef {{title: string | null, logo: boolean, buttons: string[] | null, defaults: Record<string, string>,
 *            locked: string[]}} Operator
 */

/** @type {Operator} */
const NO_OPERATOR = { title: null, logo: false, buttons: null, defaults: {}, locked: [] };

const STORAGE_KEY = "vncgate.settings";

// So many machines are remembered; the one that was longest unused is forgotten first.
const MACHINES_MAX = 200;

/** Settings of this browser, with those of the operator and of the link. */
export class Settings {
    /**
     * @param {Record<string, string>} link what the link sets for this visit
     * @param {Operator} operator
     */
    constructor(link, operator) {
        this.link = link;
        this.operator = operator;
        this.machine = "";
        /** @type {Record<string, string>} what was set since the page was opened, where the browser keeps nothing */
        this.visit = {};
    }

    /** @param {Name} name */
    get(name) {
        const { values, usual, perMachine } = SETTINGS[name];
        const set = [this.visit[name], this.link[name], this.stored(perMachine)[name]];
        const given = [...(this.isLocked(name) ? [] : set), this.operator.defaults[name]];
        return given.find((value) => value !== undefined && values.includes(value)) ?? usual;
    }

    /** @param {Name} name */
    isLocked(name) {
        return this.operator.locked.includes(name);
    }

    /**
     * @param {Name} name
     * @param {string} value
     */
    set(name, value) {
        this.visit[name] = value;
        const all = read();
        if (SETTINGS[name].perMachine) {
            const { [this.machine]: own = {}, ...others } = all.machines;
            const machines = [...Object.entries(others), [this.machine, { ...own, [name]: value }]];
            write({ ...all, machines: Object.fromEntries(machines.slice(-MACHINES_MAX)) });
        } else {
            write({ ...all, settings: { ...all.settings, [name]: value } });
        }
    }

    /** @param {boolean} [perMachine] */
    stored(perMachine) {
        const { settings, machines } = read();
        return perMachine ? machines[this.machine] ?? {} : settings;
    }
}

/**
 * @returns {Promise<Operator>} never rejects: without it the page has its own defaults, and the connection will say
 *     what is wrong
 */
export async function askOperator() {
    try {
        const response = await fetch("console/page");
        return response.ok ? { ...NO_OPERATOR, ...await response.json() } : NO_OPERATOR;
    } catch {
        return NO_OPERATOR;
    }
}

/** @typedef {{settings: Record<string, string>, machines: Record<string, Record<string, string>>}} Stored */

/** @returns {Stored} */
function read() {
    try {
        const { settings, machines } = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "{}");
        return { settings: { ...settings }, machines: { ...machines } };
    } catch {
        return { settings: {}, machines: {} }; // a private window may refuse storage, and others may have written it
    }
}

/** @param {Stored} stored */
function write(stored) {
    try {
        localStorage.setItem(STORAGE_KEY, JSON.stringify(stored));
    } catch {
        // Refused or full: the setting holds for this visit.
    }
}
