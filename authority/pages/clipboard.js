// Text for the console server's clipboard.

import { Tally } from "./characters.js";
import { hasExtendedClipboard } from "./server.js";

/** @typedef {import("./novnc/core/rfb.js").default} RFB */

// A surrogate without its other half is no character, and UTF-8 has no form for it.
const NO_CHARACTER = /\p{Cs}/u;

/**
 * What `setClipboard` cannot send of `text`.
 *
 * @param {RFB} rfb
 * @param {string} text
 * @returns {{lost: Tally, extended: boolean}} the characters; a server with the Extended Clipboard pseudo-encoding
 *     does not get them, any other gets question marks in their place
 */
export function clipboardLosses(rfb, text) {
    const extended = hasExtendedClipboard(rfb);
    const lost = new Tally();
    for (const character of text) {
        if (extended ? character === "\0" || NO_CHARACTER.test(character) : character > "\u00ff") {
            lost.add(character);
        }
    }
    return { lost, extended };
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
