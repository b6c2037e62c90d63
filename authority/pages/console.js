// The page: shows the state of the session and handles its buttons. README.md describes the whole path.

import { readLink } from "./link.js";
import { runSession } from "./session.js";
import { typeText } from "./typing.js";

/**
 * @typedef {import("./novnc/core/rfb.js").default} RFB
 * @typedef {import("./session.js").State} State
 * @typedef {import("./status.js").Vm} Vm
 */

/** @type {Record<string, string>} */
const POWER_STATES = { poweredOn: "powered on", poweredOff: "powered off", suspended: "suspended" };

const pasteDialog = element("paste-dialog", HTMLDialogElement);
const pasteText = element("paste-text", HTMLTextAreaElement);
const link = readLink();

/** @type {RFB | null} noVNC's session while connected. */
let rfb = null;
let fit = link.fit;
let viewOnly = link.viewOnly;
let abort = new AbortController(); // ends the session
let typing = new AbortController(); // ends the typing of pasted text

wireButtons();
leaveScreenByCtrlAlt();
// Pasting another link over this one changes only the fragment, which does not load the page again.
addEventListener("hashchange", () => location.reload());
connect();

function connect() {
    abort.abort();
    const own = new AbortController();
    abort = own;
    // The previous session may still report its end.
    runSession(link.token, element("screen"), own.signal, (state) => abort === own && show(state));
}

// --- What the page shows

/** @param {State} state */
function show(state) {
    const ended = state.phase === "ended";
    const session = state.phase === "connected" ? state.rfb : null;
    const gained = session !== null && rfb === null;
    rfb = session;

    document.body.dataset.reason = reasonIn(state)?.code ?? "";
    showMachine(state.vm);
    showPhase(state.phase);
    showNotice(state);
    applyOptions();
    const hopeless = ended && state.reason.retry === "never";
    element("reconnect").hidden = hopeless;
    const connection = element("connection", HTMLButtonElement);
    connection.disabled = hopeless;
    connection.textContent = ended ? "Reconnect" : "Disconnect";
    if (session === null) {
        pasteDialog.close();
    } else if (gained) {
        session.background = "transparent";
        session.focus({ preventScroll: true });
    }
    if (ended && document.activeElement === document.body) {
        element("reconnect").focus();
    }
}

/** @param {State} state */
function reasonIn(state) {
    return state.phase === "waiting" || state.phase === "ended" ? state.reason : undefined;
}

/** @param {Vm | null} vm */
function showMachine(vm) {
    if (vm === null) {
        return;
    }
    document.title = `${vm.name} – console`;
    element("name").textContent = vm.name;
    element("name").title = vm.name;
    element("screen").setAttribute("aria-label", `Screen of ${vm.name}`);
    element("power").textContent = POWER_STATES[vm.powerState ?? ""] ?? "";
    const time = vm.expiresAt.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    element("validity").textContent = `This link can open the console until ${time}.`;
}

/** @param {State["phase"]} phase */
function showPhase(phase) {
    const texts = {
        connecting: "Connecting",
        connected: "Connected",
        waiting: "Waiting to reconnect",
        ended: "Not connected",
    };
    element("state").dataset.phase = phase;
    element("state").textContent = texts[phase];
}

/** @param {State} state */
function showNotice(state) {
    const reason = reasonIn(state);
    element("notice").hidden = reason === undefined;
    if (reason === undefined) {
        return;
    }
    const heading = state.opened ? "The console has ended" : "The console cannot be opened";
    element("notice-heading").textContent = heading;
    element("notice-summary").textContent = reason.summary;
    element("notice-advice").textContent = reason.advice;
    element("notice-retry").hidden = state.phase !== "waiting";
    element("notice-retry").textContent = state.phase === "waiting"
        ? `Trying again in ${state.retry.seconds} s (attempt ${state.retry.attempt} of ${state.retry.of}).`
        : "";
    const detail = reason.detail ? `: ${reason.detail}` : "";
    element("notice-code").textContent = reason.code + detail;
}

function applyOptions() {
    if (rfb !== null) {
        rfb.scaleViewport = fit;
        rfb.viewOnly = viewOnly;
    }
    const mayType = rfb !== null && !viewOnly;
    element("ctrl-alt-del", HTMLButtonElement).disabled = !mayType;
    element("paste", HTMLButtonElement).disabled = !mayType;
    element("fit").setAttribute("aria-pressed", String(fit));
    element("view-only").setAttribute("aria-pressed", String(viewOnly));
}

// --- What the person does

function wireButtons() {
    onClick("ctrl-alt-del", () => {
        rfb?.sendCtrlAltDel();
        rfb?.focus();
    });
    onClick("fit", () => {
        fit = !fit;
        applyOptions();
    });
    onClick("view-only", () => {
        viewOnly = !viewOnly;
        applyOptions();
    });
    onClick("full-screen", toggleFullScreen);
    onClick("connection", () => {
        if (element("state").dataset.phase === "ended") {
            connect();
        } else {
            abort.abort();
        }
    });
    onClick("reconnect", connect);
    onClick("paste", () => pasteDialog.showModal());
    onClick("paste-type", typePastedText);
    onClick("paste-clipboard", () => {
        rfb?.clipboardPasteFrom(pasteText.value);
        pasteDialog.close();
    });
    pasteDialog.addEventListener("close", whenPasteDialogCloses);
    document.addEventListener("fullscreenchange", () => {
        element("full-screen").setAttribute("aria-pressed", String(document.fullscreenElement !== null));
    });
}

/**
 * @param {string} id
 * @param {() => void} action
 */
function onClick(id, action) {
    element(id).addEventListener("click", action);
}

async function toggleFullScreen() {
    if (document.fullscreenElement !== null) {
        await document.exitFullscreen();
        return;
    }
    await document.documentElement.requestFullscreen();
    // Alt+Tab, Ctrl+W and Esc reach the machine too, in browsers that support it. Holding Esc still leaves
    // full screen.
    await navigator.keyboard?.lock();
    rfb?.focus();
}

async function typePastedText() {
    if (rfb === null) {
        return;
    }
    const button = element("paste-type", HTMLButtonElement);
    button.disabled = true;
    typing = new AbortController();
    await typeText(rfb, pasteText.value, typing.signal, (typed, of) => {
        element("paste-progress").textContent = `Typed ${typed} of ${of}`;
    });
    button.disabled = false;
    pasteDialog.close();
}

function whenPasteDialogCloses() {
    typing.abort();
    // It may have been a password.
    pasteText.value = "";
    element("paste-progress").textContent = "";
    rfb?.focus();
}

// While the screen has the focus, every key goes to the machine, Tab included. As in VMware's own consoles,
// Ctrl+Alt releases it: the left keys only, because AltGr reports Ctrl with the right Alt.
function leaveScreenByCtrlAlt() {
    let armed = false;
    const screen = element("screen");
    screen.addEventListener("keydown", ({ code, ctrlKey, altKey }) => {
        armed = (code === "AltLeft" && ctrlKey) || (code === "ControlLeft" && altKey);
    }, { capture: true });
    screen.addEventListener("keyup", ({ ctrlKey, altKey }) => {
        if (armed && !ctrlKey && !altKey) {
            armed = false;
            // Deferred until noVNC has sent the releases of the keys. The focus goes to a button that does no
            // harm if it is pressed by accident.
            setTimeout(() => element("fit").focus());
        }
    }, { capture: true });
}

// --- What console.html has

/**
 * The element of this id.
 *
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [type]
 * @returns {T}
 */
function element(id, type) {
    const found = document.getElementById(id);
    if (!(found instanceof (type ?? HTMLElement))) {
        throw new Error(`console.html has no such element: ${id}`);
    }
    return /** @type {T} */ (found);
}
