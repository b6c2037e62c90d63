// Text as key presses, for consoles that have no clipboard.

import { Tally } from "./characters.js";
import KeyTable from "./novnc/core/input/keysym.js";
import keysyms from "./novnc/core/input/keysymdef.js";
import { takesScanCodes } from "./server.js";

/**
 * @typedef {import("./novnc/core/rfb.js").default} RFB
 * @typedef {import("./layout.js").Layout} Layout
 */

// A console's keyboard buffer is as small as 16 events (PS/2) and drops what comes too fast. A guest that
// polls its keyboard at 50 Hz keeps up with "normal", one that is starting or swapping with "slow".
const KEY_INTERVAL_MS = { slow: 100, normal: 25, fast: 8 };

/** @typedef {keyof typeof KEY_INTERVAL_MS} Speed */

// How many characters one report of the progress covers.
const PROGRESS_STEP = 20;

// Control characters, and surrogates without their other half.
const WITHOUT_KEY = /^[\p{Cc}\p{Cs}]$/u;

/**
 * What typing a text takes, and what of it cannot be typed.
 *
 * @param {RFB} rfb
 * @param {Layout} layout
 * @param {string} text
 * @returns {{characters: number, presses: number, foreign: Tally, keyless: Tally}} how many characters are typed
 *     and how many keys are pressed for that; those that the layout does not have, which may not arrive; those
 *     that have no key, which are left out
 */
export function surveyTyping(rfb, layout, text) {
    const scanCodes = takesScanCodes(rfb);
    let characters = 0;
    let presses = 0;
    const foreign = new Tally();
    const keyless = new Tally();
    for (const { character } of charactersOf(text)) {
        if (!hasKey(character)) {
            keyless.add(character);
            continue;
        }
        characters += 1;
        presses += pressesOf(layout, character, scanCodes);
        if (!hasKeys(layout, character, scanCodes)) {
            foreign.add(character);
        }
    }
    return { characters, presses, foreign, keyless };
}

/**
 * How many seconds so many key presses take.
 *
 * @param {number} presses
 * @param {Speed} speed
 */
export function typingSeconds(presses, speed) {
    return Math.ceil(presses * KEY_INTERVAL_MS[speed] / 1000);
}

/**
 * Types `text` into a guest with this layout. Line ends become Return, tabs Tab; other control characters are left
 * out.
 *
 * @param {RFB} rfb
 * @param {Layout} layout
 * @param {Speed} speed
 * @param {string} text of any length
 * @param {AbortSignal} signal stops the typing
 * @param {(characters: number, presses: number) => void} onProgress gets the number of characters and of key
 *     presses so far, now and then
 * @returns {Promise<{typed: number, rest: string}>} how many characters, and what is left of the text: nothing,
 *     unless the typing was stopped
 */
export async function typeText(rfb, layout, speed, text, signal, onProgress) {
    const scanCodes = takesScanCodes(rfb);
    let typed = 0;
    let pressed = 0;
    for (const { character, start } of charactersOf(text)) {
        // In "view only" noVNC sends no keys, and does not say so.
        if (signal.aborted || rfb.viewOnly) {
            return { typed, rest: text.slice(start) };
        }
        if (!hasKey(character)) {
            continue;
        }
        typeCharacter(rfb, layout, character);
        const presses = pressesOf(layout, character, scanCodes);
        typed += 1;
        pressed += presses;
        if (typed % PROGRESS_STEP === 0) {
            onProgress(typed, pressed);
        }
        await new Promise((resolve) => { setTimeout(resolve, presses * KEY_INTERVAL_MS[speed]); });
    }
    return { typed, rest: "" };
}

/**
 * Presses the keys of one character: those of the layout, or else the keysym, which some servers can type.
 *
 * @param {RFB} rfb
 * @param {Layout} layout
 * @param {string} character
 */
export function typeCharacter(rfb, layout, character) {
    const strokes = layout.strokesOf(character, takesScanCodes(rfb));
    if (character === "\n" || character === "\r") {
        rfb.sendKey(KeyTable.XK_Return, "Enter");
    } else if (character === "\t") {
        rfb.sendKey(KeyTable.XK_Tab, "Tab");
    } else if (strokes === null) {
        rfb.sendKey(keysyms.lookup(/** @type {number} */ (character.codePointAt(0))), null);
    } else {
        for (const stroke of strokes) {
            press(rfb, layout, stroke);
        }
    }
}

/**
 * @param {RFB} rfb
 * @param {Layout} layout
 * @param {import("./layout.js").Stroke} stroke
 */
function press(rfb, layout, stroke) {
    /** @param {boolean} down */
    const modifiers = (down) => {
        // The server of an ESXi host takes a keysym for a key, not for a character, so Shift has to be held.
        if (stroke.shift) {
            rfb.sendKey(KeyTable.XK_Shift_L, "ShiftLeft", down);
        }
        if (stroke.altGr) {
            rfb.sendKey(KeyTable.XK_Alt_R, "AltRight", down);
        }
    };
    modifiers(true);
    rfb.sendKey(layout.keysymOf(stroke), stroke.code);
    modifiers(false);
}

/**
 * @param {Layout} layout
 * @param {string} character
 * @param {boolean} scanCodes
 */
function pressesOf(layout, character, scanCodes) {
    const strokes = layout.strokesOf(character, scanCodes);
    return strokes?.reduce((sum, { shift, altGr }) => sum + 1 + Number(shift) + Number(altGr), 0) ?? 1;
}

/**
 * @param {Layout} layout
 * @param {string} character
 * @param {boolean} scanCodes
 */
function hasKeys(layout, character, scanCodes) {
    return character === "\n" || character === "\t" || layout.strokesOf(character, scanCodes) !== null;
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
