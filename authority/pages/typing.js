// Types text as key presses, for consoles without a clipboard.

import KeyTable from "./novnc/core/input/keysym.js";
import keysyms from "./novnc/core/input/keysymdef.js";

/** @typedef {import("./novnc/core/rfb.js").default} RFB */

// A console's keyboard buffer may hold as few as 16 events (PS/2), and drops those that come too fast. A
// guest that polls its keyboard at 50 Hz keeps up with this interval.
const KEY_INTERVAL_MS = 25;

// The VNC server of an ESXi host maps a keysym to a key, not to a character, so Shift has to be held for
// these.
const SHIFTED_ON_US_KEYBOARD = /^[A-Z~!@#$%^&*()_+{}|:"<>?]$/;

/**
 * Types `text` into the console as on a US keyboard. Line ends become Return, tabs Tab; other control
 * characters are left out.
 *
 * @param {RFB} rfb
 * @param {string} text
 * @param {AbortSignal} signal stops the typing
 * @param {(typed: number, of: number) => void} onProgress counts key presses
 */
export async function typeText(rfb, text, signal, onProgress) {
    const presses = keyPresses(text);
    for (const [index, { keysym, shift }] of presses.entries()) {
        if (signal.aborted) {
            return;
        }
        if (shift) {
            rfb.sendKey(KeyTable.XK_Shift_L, "ShiftLeft", true);
        }
        rfb.sendKey(keysym, null);
        if (shift) {
            rfb.sendKey(KeyTable.XK_Shift_L, "ShiftLeft", false);
        }
        onProgress(index + 1, presses.length);
        await new Promise((resolve) => setTimeout(resolve, KEY_INTERVAL_MS));
    }
}

/** @param {string} text */
function keyPresses(text) {
    const presses = [];
    for (const character of text.replace(/\r\n?/g, "\n")) {
        if (character === "\n") {
            presses.push({ keysym: KeyTable.XK_Return, shift: false });
        } else if (character === "\t") {
            presses.push({ keysym: KeyTable.XK_Tab, shift: false });
        } else if (!/\p{Cc}/u.test(character)) {
            const keysym = keysyms.lookup(/** @type {number} */ (character.codePointAt(0)));
            presses.push({ keysym, shift: SHIFTED_ON_US_KEYBOARD.test(character) });
        }
    }
    return presses;
}
