// The page: shows the state of the session and handles its buttons. README.md tells the whole path.

import { element, onClick } from "./element.js";
import { readLink } from "./link.js";
import { setPasteSession, showPasteDialog, wirePasteDialog } from "./paste.js";
import { reasonOf } from "./reasons.js";
import { runSession } from "./session.js";

/**
 * @typedef {import("./novnc/core/rfb.js").default} RFB
 * @typedef {import("./session.js").State} State
 */

/** @type {Record<string, string>} */
const POWER_STATES = { poweredOn: "powered on", poweredOff: "powered off", suspended: "suspended" };

const link = readLink();

/** @type {RFB | null} noVNC's session while connected. */
let rfb = null;
let fit = link.fit;
let viewOnly = link.viewOnly;
let abort = new AbortController(); // ends the session

wireButtons();
leaveScreenByCtrlAlt();
// A link pasted over this one changes the fragment alone, which loads nothing.
addEventListener("hashchange", () => location.reload());
connect();

function connect() {
    abort.abort();
    const own = new AbortController();
    abort = own;
    // The session before may have last words.
    const tell = (/** @type {State} */ state) => abort === own && show(state);
    runSession(link.token, element("screen"), own.signal, tell).catch((error) => {
        const reason = reasonOf({ code: "page_failed", detail: String(error) });
        tell({ vm: null, opened: false, phase: "ended", reason });
        throw error;
    });
}

// --- What the page shows

/** @param {State} state */
function show(state) {
    const ended = state.phase === "ended";
    const session = state.phase === "connected" ? state.rfb : null;
    const gained = session !== null && rfb === null;
    rfb = session;

    document.body.dataset.reason = reasonIn(state)?.code ?? "";
    showMachine(state);
    showPhase(state.phase);
    showNotice(state);
    applyOptions();
    const hopeless = ended && state.reason.retry === "never";
    element("reconnect").hidden = hopeless;
    const connection = element("connection", HTMLButtonElement);
    connection.disabled = hopeless;
    connection.textContent = ended ? "Reconnect" : "Disconnect";
    setPasteSession(session);
    if (session !== null && gained) {
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

/** @param {State} state */
function showMachine({ vm, opened }) {
    if (vm === null) {
        return;
    }
    document.title = `${vm.name} – console`;
    element("name").textContent = vm.name;
    element("name").title = vm.name;
    element("screen").setAttribute("aria-label", `Screen of ${vm.name}`);
    element("power").textContent = POWER_STATES[vm.powerState ?? ""] ?? "";
    const time = vm.expiresAt.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    element("validity").textContent = vm.singleUse
        ? opened ? "This link is used up." : `This link can open the console once, until ${time}.`
        : `This link can open the console until ${time}.`;
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
    onClick("paste", showPasteDialog);
    wirePasteDialog();
    // Safari has full screen since 16.4, and not on an iPhone.
    element("full-screen").hidden = !document.fullscreenEnabled;
    document.addEventListener("fullscreenchange", () => {
        element("full-screen").setAttribute("aria-pressed", String(document.fullscreenElement !== null));
    });
}

async function toggleFullScreen() {
    if (document.fullscreenElement !== null) {
        await document.exitFullscreen();
        return;
    }
    await document.documentElement.requestFullscreen();
    // Alt+Tab, Ctrl+W and Esc reach the machine as well, in browsers that can; holding Esc still leaves.
    await navigator.keyboard?.lock();
    rfb?.focus();
}

// While the screen has the focus every key goes to the machine, Tab too. VMware's own consoles let go at
// Ctrl+Alt; only the left ones, since AltGr reports Ctrl with the right Alt.
function leaveScreenByCtrlAlt() {
    let armed = false;
    const screen = element("screen");
    screen.addEventListener("keydown", ({ code, ctrlKey, altKey }) => {
        armed = (code === "AltLeft" && ctrlKey) || (code === "ControlLeft" && altKey);
    }, { capture: true });
    screen.addEventListener("keyup", ({ ctrlKey, altKey }) => {
        if (armed && !ctrlKey && !altKey) {
            armed = false;
            // After noVNC has told the machine that the keys are up; to a button that a slip of the hand
            // may press.
            setTimeout(() => element("fit").focus());
        }
    }, { capture: true });
}
