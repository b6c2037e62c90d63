// Text as key presses, for consoles that have no clipboard.

import { Tally } from "./characters.js";
import KeyTable from "./novnc/core/input/keysym.js";
import keysyms from "./novnc/core/input/keysymdef.js";

/** @typedef {import("./novnc/core/rfb.js").default} RFB */

// A console's keyboard buffer is as small as 16 events (PS/2) and drops what comes too fast. A guest that
// polls its keyboard at 50 Hz keeps up with this.
const KEY_INTERVAL_MS = 25;

// How many key presses one report of the progress covers.
const PROGRESS_STEP = 20;

// The server of an ESXi host takes a keysym for a key, not for a character: Shift has to be held for these.
const SHIFTED_ON_US_KEYBOARD = /^[A-Z~!@#$%^&*()_+{}|:"<>?]$/;

const ON_US_KEYBOARD = /^[\n\t\x20-\x7e]$/;

// Control characters, and surrogates without their other half.
const WITHOUT_KEY = /^[\p{Cc}\p{Cs}]$/u;

/**
 * What typing a text takes, and what of it cannot be typed.
 *
 * @param {string} text
 * @returns {{presses: number, losses: string[]}} how many key presses, and sentences with the characters that
 *     will or may not arrive
 */
export function surveyTyping(text) {
    let presses = 0;
    const foreign = new Tally();
    const keyless = new Tally();
    for (const { character } of charactersOf(text)) {
        if (hasKey(character)) {
            presses += 1;
            if (!ON_US_KEYBOARD.test(character)) {
                foreign.add(character);
            }
        } else {
            keyless.add(character);
        }
    }
    const losses = [];
    if (!foreign.empty) {
        losses.push(`These are not on a US keyboard and may not arrive: ${foreign}.`);
    }
    if (!keyless.empty) {
        losses.push(`These have no key and are left out: ${keyless}.`);
    }
    return { presses, losses };
}

/**
 * How long so many key presses take, in words.
 *
 * @param {number} presses
 */
export function typingTime(presses) {
    const seconds = Math.ceil(presses * KEY_INTERVAL_MS / 1000);
    if (seconds < 90) {
        return seconds === 1 ? "about a second" : `about ${seconds} seconds`;
    }
    return `about ${Math.ceil(seconds / 60)} minutes`;
}

/**
 * Types `text` into the console as on a US keyboard. Line ends become Return, tabs Tab; other control
 * characters are left out.
 *
 * @param {RFB} rfb
 * @param {string} text of any length
 * @param {AbortSignal} signal stops the typing
 * @param {(typed: number) => void} onProgress gets the number of key presses so far, now and then
 * @returns {Promise<{typed: number, rest: string}>} how many key presses, and what is left of the text: nothing,
 *     unless the typing was stopped
 */
export async function typeText(rfb, text, signal, onProgress) {
    let typed = 0;
    for (const { character, start } of charactersOf(text)) {
        // In "view only" noVNC sends no keys, and does not say so.
        if (signal.aborted || rfb.viewOnly) {
            return { typed, rest: text.slice(start) };
        }
        if (!hasKey(character)) {
            continue;
        }
        press(rfb, character);
        typed += 1;
        if (typed % PROGRESS_STEP === 0) {
            onProgress(typed);
        }
        await new Promise((resolve) => setTimeout(resolve, KEY_INTERVAL_MS));
    }
    return { typed, rest: "" };
}

/**
 * @param {RFB} rfb
 * @param {string} character
 */
function press(rfb, character) {
    const shift = SHIFTED_ON_US_KEYBOARD.test(character);
    if (shift) {
        rfb.sendKey(KeyTable.XK_Shift_L, "ShiftLeft", true);
    }
    rfb.sendKey(keysymOf(character), null);
    if (shift) {
        rfb.sendKey(KeyTable.XK_Shift_L, "ShiftLeft", false);
    }
}

/** @param {string} character */
function keysymOf(character) {
    switch (character) {
        case "\n":
            return KeyTable.XK_Return;
        case "\t":
            return KeyTable.XK_Tab;
        default:
            return keysyms.lookup(/** @type {number} */ (character.codePointAt(0)));
    }
}

/** @param {string} character */
function hasKey(character) {
    return character === "\n" || character === "\t" || !WITHOUT_KEY.test(character);
}

/**
 * The characters of a text and where each starts, in UTF-16 code units. A line end of any kind is one `\n`.
 *
 * @param {string} text
 */
function* charactersOf(text) {
    for (const { 0: character, index } of text.matchAll(/\r\n|[^]/gu)) {
        yield { character: character.startsWith("\r") ? "\n" : character, start: index };
    }
}
