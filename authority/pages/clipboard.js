// Text for the console server's clipboard.

import { Tally } from "./characters.js";

/** @typedef {import("./novnc/core/rfb.js").default} RFB */

// The "text" format and the "notify" action of the Extended Clipboard pseudo-encoding, by noVNC's names.
const EXTENDED_FORMAT_TEXT = 1;
const EXTENDED_ACTION_NOTIFY = 1 << 27;

// A surrogate without its other half is no character, and UTF-8 has no form for it.
const NO_CHARACTER = /\p{Cs}/u;

/**
 * What `setClipboard` cannot send of `text`.
 *
 * @param {RFB} rfb
 * @param {string} text
 * @returns {string[]} sentences with the characters and what becomes of them; none if all of it can be sent
 */
export function clipboardLosses(rfb, text) {
    const extended = hasExtendedClipboard(rfb);
    const lost = new Tally();
    for (const character of text) {
        if (extended ? character === "\0" || NO_CHARACTER.test(character) : character > "\u00ff") {
            lost.add(character);
        }
    }
    if (lost.empty) {
        return [];
    }
    return extended
        ? [`These are not text and are left out: ${lost}.`]
        : [`This console's clipboard knows Western European characters alone (ISO 8859-1). `
            + `Each of these becomes a question mark: ${lost}.`];
}

/**
 * @param {RFB} rfb
 * @param {string} text
 */
export function setClipboard(rfb, text) {
    // noVNC throws at half a surrogate pair, and a server ends the text at a NUL.
    const sent = hasExtendedClipboard(rfb)
        ? Array.from(text).filter((character) => character !== "\0" && !NO_CHARACTER.test(character)).join("")
        : text;
    rfb.clipboardPasteFrom(sent);
}

/**
 * Whether the server takes UTF-8. noVNC decides by the same two values which message `clipboardPasteFrom` sends,
 * and has no public name for them. Without them (another noVNC) the answer is no, which warns too often.
 *
 * @param {RFB} rfb
 * @returns {boolean}
 */
function hasExtendedClipboard(rfb) {
    const { _clipboardServerCapabilitiesFormats: formats, _clipboardServerCapabilitiesActions: actions } =
        /** @type {{[name: string]: Record<number, boolean> | undefined}} */ (/** @type {unknown} */ (rfb));
    return Boolean(formats?.[EXTENDED_FORMAT_TEXT] && actions?.[EXTENDED_ACTION_NOTIFY]);
}
