// The dialog "Paste text": says what of a text cannot be sent before any of it is, and how far the typing is.

import { clipboardLosses, setClipboard } from "./clipboard.js";
import { closeDialog, element, onClick, showDialog } from "./element.js";
import { duration, say } from "./language.js";
import { hasExtendedClipboard } from "./server.js";
import { layoutName } from "./settings_dialog.js";
import { surveyTyping, typeText, typingSeconds } from "./typing.js";

/**
 * @typedef {import("./novnc/core/rfb.js").default} RFB
 * @typedef {import("./layout.js").Layout} Layout
 * @typedef {import("./typing.js").Speed} Speed
 * @typedef {{rfb: RFB, layout: Layout, speed: Speed}} Guest where text goes
 */

const box = element("paste-text", HTMLTextAreaElement);
const typeButton = element("paste-type", HTMLButtonElement);
const clipboardButton = element("paste-clipboard", HTMLButtonElement);

/** @type {Guest | null} */
let guest = null;
/** @type {AbortController | null} stops the typing that is under way. */
let typing = null;
/** @type {"type" | "clipboard" | null} the way of which the losses are shown, and may be accepted. */
let warnedOf = null;
let guestHasClipboard = false;
let clipboardAllowed = true;

export function wirePasteDialog() {
    onClick("paste-type", () => typing === null ? type() : typing.abort());
    onClick("paste-clipboard", toClipboard);
    onClick("paste-close", () => closeDialog("paste-dialog"));
    onClick("paste-read", readClipboard);
    box.addEventListener("input", whenTextChanged);
    element("paste-dialog").addEventListener("close", whenClosed);
    // Safari and Chromium ask the person; Firefox before 125 cannot.
    element("paste-read").hidden = !navigator.clipboard?.readText;
}

export function showPasteDialog() {
    showDialog("paste-dialog");
    showButtons();
    box.focus();
}

/**
 * Where text goes from now on.
 *
 * @param {Guest | null} next null: nowhere, the console is not connected
 */
export function setPasteGuest(next) {
    const changed = next?.rfb !== guest?.rfb;
    guest = next;
    if (next === null) {
        typing?.abort();
        // What was not sent stays here.
        if (box.value === "") {
            closeDialog("paste-dialog");
        }
    }
    if (changed) {
        guestHasClipboard = false;
        // noVNC drops keys from here on, and does not say so.
        next?.rfb.addEventListener("disconnect", () => {
            if (guest?.rfb === next.rfb) {
                setPasteGuest(null);
            }
        });
        if (typing === null && box.value !== "") {
            write("paste-progress", next === null ? say("paste_not_connected") : sizeOf(box.value));
        }
    }
    showButtons();
}

/** The server has sent its clipboard, so it has one. */
export function noteClipboard() {
    guestHasClipboard = true;
    showButtons();
}

/**
 * Whether the gateway passes text for the machine's clipboard on.
 *
 * @param {boolean} allowed
 */
export function allowClipboard(allowed) {
    clipboardAllowed = allowed;
    showButtons();
}

function whenTextChanged() {
    warn(null, "");
    write("paste-progress", sizeOf(box.value));
}

async function readClipboard() {
    try {
        box.value = await navigator.clipboard.readText();
        whenTextChanged();
    } catch {
        // Refused by the person, the browser or the page around this one.
        warn(null, say("clipboard_refused"));
    }
    box.focus();
}

async function type() {
    if (guest === null) {
        return;
    }
    const { rfb, layout, speed } = guest;
    // Letters and their accents in one character, as a keyboard types them.
    box.value = box.value.normalize("NFC");
    const { characters, presses, foreign, keyless } = surveyTyping(rfb, layout, box.value);
    const losses = [
        foreign.empty ? "" : say("paste_foreign", { layout: layoutName(layout.name), characters: listOf(foreign) }),
        keyless.empty ? "" : say("paste_keyless", { characters: listOf(keyless) }),
    ].filter(Boolean).join(" ");
    if (!accepted("type", losses)) {
        return;
    }
    const own = new AbortController();
    typing = own;
    showButtons();
    const { typed, rest } = await typeText(rfb, layout, speed, box.value, own.signal, (soFar, pressed) => {
        const time = duration(typingSeconds(presses - pressed, speed));
        write("paste-progress", say("paste_progress", { typed: soFar, of: characters, time }));
    });
    if (typing !== own) {
        return; // the dialog was closed meanwhile
    }
    typing = null;
    showButtons();
    if (rest === "") {
        closeDialog("paste-dialog");
        return;
    }
    box.value = rest;
    const stopped = guest === null ? "paste_cut_off" : "paste_stopped";
    write("paste-progress", say(stopped, { typed, of: characters }));
}

function toClipboard() {
    if (guest === null) {
        return;
    }
    const { lost, extended } = clipboardLosses(guest.rfb, box.value);
    const words = extended ? "clipboard_no_text" : "clipboard_latin1";
    if (accepted("clipboard", lost.empty ? "" : say(words, { characters: listOf(lost) }))) {
        setClipboard(guest.rfb, box.value);
        closeDialog("paste-dialog");
    }
}

/** @param {import("./characters.js").Tally} tally */
function listOf(tally) {
    return tally.list((count) => say("times", { count }), (count) => say("and_others", { count }));
}

/**
 * Whether the text can be sent this way. If some of it would be lost, the person is told so, and decides by
 * pressing the button again.
 *
 * @param {"type" | "clipboard"} way
 * @param {string} losses
 */
function accepted(way, losses) {
    const ask = losses !== "" && warnedOf !== way;
    warn(ask ? way : null, ask ? losses : "");
    return !ask;
}

/**
 * @param {"type" | "clipboard" | null} way
 * @param {string} losses
 */
function warn(way, losses) {
    warnedOf = way;
    write("paste-warning", losses);
    showButtons();
}

function showButtons() {
    const busy = typing !== null;
    box.readOnly = busy;
    typeButton.disabled = guest === null;
    write("paste-hint", guest === null ? "" : say("paste_hint", { layout: layoutName(guest.layout.name) }));
    clipboardButton.disabled = guest === null || busy;
    const known = guest !== null && (guestHasClipboard || hasExtendedClipboard(guest.rfb));
    clipboardButton.hidden = !known || !clipboardAllowed;
    element("paste-read", HTMLButtonElement).disabled = busy;
    typeButton.textContent = say(busy ? "paste_stop" : warnedOf === "type" ? "paste_type_anyway" : "paste_type");
    clipboardButton.textContent = say(warnedOf === "clipboard" ? "paste_set_anyway" : "paste_set");
}

/** @param {string} text */
function sizeOf(text) {
    if (guest === null || text === "") {
        return "";
    }
    const { rfb, layout, speed } = guest;
    const { characters, presses } = surveyTyping(rfb, layout, text);
    return say("paste_size", { characters, time: duration(typingSeconds(presses, speed)) });
}

function whenClosed() {
    typing?.abort();
    typing = null;
    // It may have been a password.
    box.value = "";
    write("paste-progress", "");
    warn(null, "");
    guest?.rfb.focus();
}

/**
 * @param {string} id
 * @param {string} text
 */
function write(id, text) {
    element(id).textContent = text;
}
