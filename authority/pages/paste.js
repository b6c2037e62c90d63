// The dialog "Paste text": says what of a text cannot be sent before any of it is, and how far the typing is.

import { clipboardLosses, setClipboard } from "./clipboard.js";
import { element, onClick } from "./element.js";
import { surveyTyping, typeText, typingTime } from "./typing.js";

/** @typedef {import("./novnc/core/rfb.js").default} RFB */

// Firefox before 98 and Safari before 15.4 have no dialogs. There it is a box over the page.
const dialog = /** @type {HTMLElement & Partial<HTMLDialogElement>} */ (element("paste-dialog"));
const box = element("paste-text", HTMLTextAreaElement);
const typeButton = element("paste-type", HTMLButtonElement);
const clipboardButton = element("paste-clipboard", HTMLButtonElement);

/** @type {RFB | null} */
let rfb = null;
/** @type {AbortController | null} stops the typing that is under way. */
let typing = null;
/** @type {"type" | "clipboard" | null} the way of which the losses are shown, and may be accepted. */
let warnedOf = null;

export function wirePasteDialog() {
    onClick("paste-type", () => typing === null ? type() : typing.abort());
    onClick("paste-clipboard", toClipboard);
    onClick("paste-close", close);
    box.addEventListener("input", () => {
        warn(null, []);
        write("paste-progress", sizeOf(box.value));
    });
    dialog.addEventListener("close", whenClosed);
}

export function showPasteDialog() {
    if (dialog.showModal) {
        dialog.showModal();
    } else {
        dialog.setAttribute("open", "");
    }
    box.focus();
}

/**
 * Where text goes from now on.
 *
 * @param {RFB | null} session null: nowhere, the console is not connected
 */
export function setPasteSession(session) {
    const changed = (session === null) !== (rfb === null);
    rfb = session;
    if (session === null) {
        typing?.abort();
        // What was not sent stays here.
        if (box.value === "") {
            close();
        }
    }
    if (changed && typing === null && box.value !== "") {
        write("paste-progress", session === null ? "The console is not connected." : sizeOf(box.value));
    }
    showButtons();
}

async function type() {
    if (rfb === null) {
        return;
    }
    const { presses, losses } = surveyTyping(box.value);
    if (!accepted("type", losses)) {
        return;
    }
    const own = new AbortController();
    typing = own;
    showButtons();
    const of = presses.toLocaleString("en");
    const { typed, rest } = await typeText(rfb, box.value, own.signal, (soFar) => {
        const left = typingTime(presses - soFar);
        write("paste-progress", `Typed ${soFar.toLocaleString("en")} of ${of} key presses; ${left} left.`);
    });
    if (typing !== own) {
        return; // the dialog was closed meanwhile
    }
    typing = null;
    showButtons();
    if (rest === "") {
        close();
        return;
    }
    box.value = rest;
    const why = rfb === null ? " because the console is no longer connected" : "";
    const stopped = `Stopped after ${typed.toLocaleString("en")} of ${of} key presses${why}.`;
    write("paste-progress", `${stopped} What was not typed is still above.`);
}

function toClipboard() {
    if (rfb !== null && accepted("clipboard", clipboardLosses(rfb, box.value))) {
        setClipboard(rfb, box.value);
        close();
    }
}

/**
 * Whether the text can be sent this way. If some of it would be lost, the person is told so, and decides by
 * pressing the button again.
 *
 * @param {"type" | "clipboard"} way
 * @param {string[]} losses
 */
function accepted(way, losses) {
    const ask = losses.length > 0 && warnedOf !== way;
    warn(ask ? way : null, ask ? losses : []);
    return !ask;
}

/**
 * @param {"type" | "clipboard" | null} way
 * @param {string[]} losses
 */
function warn(way, losses) {
    warnedOf = way;
    write("paste-warning", losses.join(" "));
    showButtons();
}

function showButtons() {
    const busy = typing !== null;
    box.readOnly = busy;
    typeButton.disabled = rfb === null;
    clipboardButton.disabled = rfb === null || busy;
    typeButton.textContent = busy ? "Stop" : warnedOf === "type" ? "Type anyway" : "Type";
    clipboardButton.textContent = warnedOf === "clipboard" ? "Set anyway" : "Set clipboard";
}

/** @param {string} text */
function sizeOf(text) {
    const { presses } = surveyTyping(text);
    if (presses === 0) {
        return "";
    }
    const keys = presses === 1 ? "1 key press" : `${presses.toLocaleString("en")} key presses`;
    return `To type: ${keys}, ${typingTime(presses)}.`;
}

function close() {
    if (dialog.close) {
        dialog.close();
    } else if (dialog.hasAttribute("open")) {
        dialog.removeAttribute("open");
        whenClosed();
    }
}

function whenClosed() {
    typing?.abort();
    typing = null;
    // It may have been a password.
    box.value = "";
    write("paste-progress", "");
    warn(null, []);
    rfb?.focus();
}

/**
 * @param {string} id
 * @param {string} text
 */
function write(id, text) {
    element(id).textContent = text;
}
