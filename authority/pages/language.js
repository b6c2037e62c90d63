// The page's words, in the language of the person. languages/ has a file for each; en.json has every word.

/** The languages that the page speaks, by the names of languages/. */
export const LANGUAGES = ["en", "zh-CN", "zh-TW", "ja", "ko", "de", "fr", "es", "pt", "ru"];

/** @typedef {Record<string, string>} Words */

/** @type {Words} */
let english = {};
/** @type {Words} */
let words = {};
let language = "en";
/** @type {{of: string, english: Words, own: Words} | null} what the authority says, in English and in the language `of` */
let details = null;

/** The language that the page speaks now. */
export function spokenLanguage() {
    return language;
}

/**
 * Makes the page speak the first of the wanted languages that it knows, or English.
 *
 * @param {readonly string[]} wanted BCP 47 tags, such as `navigator.languages`
 * @returns {Promise<void>} rejects when not even English arrives
 */
export async function speak(wanted) {
    const chosen = knownLanguage(wanted);
    // A word that a language lacks, or all of them when its file does not arrive, is said in English.
    const [inEnglish, inChosen] = await Promise.all([
        fetchWords("en"),
        chosen === "en" ? {} : fetchWords(chosen).catch(() => null),
    ]);
    english = inEnglish;
    words = inChosen ?? {};
    language = inChosen === null ? "en" : chosen;
    document.documentElement.lang = language;
    translate(document);
}

/**
 * What the page says under this key.
 *
 * @param {string} key
 * @param {Record<string, string | number>} [values] what stands for `{name}` in the text
 * @returns {string} the key itself if not even English has it
 */
export function say(key, values = {}) {
    return fill(own(words, key) ?? own(english, key) ?? key, values);
}

/**
 * @param {string} text
 * @param {Record<string, string | number>} values
 */
function fill(text, values) {
    return text.replace(/\{(\w+)\}/g, (all, name) => {
        const value = own(values, name);
        return value === undefined ? all : typeof value === "number" ? number(value) : value;
    });
}

/** Whether `sayDetail` knows what it needs: in English nothing. */
export function knowsDetails() {
    return language === "en" || details?.of === language;
}

/**
 * Loads what `sayDetail` needs. It is apart from the other words since most people never see a refusal.
 *
 * @returns {Promise<void>} rejects when it does not arrive
 */
export async function loadDetails() {
    const of = language;
    const [inEnglish, inOwn] = await Promise.all([fetchWords("details/en"), fetchWords(`details/${of}`)]);
    details = { of, english: inEnglish, own: inOwn };
}

/**
 * A sentence of the authority, which speaks English, in the language of the page. languages/details/ has those that the
 * authority may say, and tests compare them. Any other text stays as it is: an operator's words, or an ESXi host's.
 *
 * @param {string} sentence
 */
export function sayDetail(sentence) {
    if (details?.of !== language) {
        return sentence;
    }
    for (const [key, text] of Object.entries(details.english)) {
        const values = valuesIn(sentence, text);
        if (values !== null) {
            return fill(details.own[key] ?? text, values);
        }
    }
    return sentence;
}

/**
 * The values for the `{names}` of `text` that make `sentence` of it.
 *
 * @param {string} sentence
 * @param {string} text
 * @returns {Record<string, string> | null} null if none do
 */
function valuesIn(sentence, text) {
    const pattern = text.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{(\w+)\}/g, "(?<$1>.+)");
    const match = new RegExp(`^${pattern}$`).exec(sentence);
    return match && { ...match.groups };
}

/**
 * Whether the page has a text under this key.
 *
 * @param {string} key
 */
export function hasText(key) {
    return own(english, key) !== undefined;
}

/** @param {number} value */
export function number(value) {
    return value.toLocaleString(language);
}

/**
 * A duration in words, in seconds or minutes.
 *
 * @param {number} seconds
 */
export function duration(seconds) {
    const [value, unit] = seconds < 90 ? [seconds, "second"] : [Math.ceil(seconds / 60), "minute"];
    return value.toLocaleString(language, { style: "unit", unit, unitDisplay: "long" });
}

/**
 * Gives the elements below `root` their texts: `data-text` has the key of the content, `data-label` of what is
 * told of the element.
 *
 * @param {ParentNode} root
 */
export function translate(root) {
    for (const element of root.querySelectorAll("[data-text]")) {
        element.textContent = say(element.getAttribute("data-text") ?? "");
    }
    for (const element of root.querySelectorAll("[data-label]")) {
        const label = say(element.getAttribute("data-label") ?? "");
        element.setAttribute("aria-label", label);
        element.setAttribute("title", label);
    }
}

/**
 * @param {readonly string[]} wanted
 * @returns {string}
 */
export function knownLanguage(wanted) {
    for (const tag of wanted) {
        const parts = tag.toLowerCase().split(/[-_]/);
        if (parts[0] === "zh") {
            return parts.some((part) => ["hant", "tw", "hk", "mo"].includes(part)) ? "zh-TW" : "zh-CN";
        }
        if (LANGUAGES.includes(parts[0])) {
            return parts[0];
        }
    }
    return "en";
}

/**
 * @param {string} name
 * @returns {Promise<Words>}
 */
async function fetchWords(name) {
    const response = await fetch(`languages/${name}.json`);
    if (!response.ok) {
        throw new Error(`languages/${name}.json: HTTP status ${response.status}`);
    }
    return response.json();
}

/**
 * @template T
 * @param {Record<string, T>} values
 * @param {string} key
 * @returns {T | undefined}
 */
function own(values, key) {
    return Object.prototype.hasOwnProperty.call(values, key) ? values[key] : undefined;
}
