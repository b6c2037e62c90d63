// The page: shows the state of the session and handles its buttons. README.md tells the whole path.

import { readLink } from "./link.js";
import { runSession } from "./session.js";
import { typeText } from "./typing.js";

const POWER_STATES = { poweredOn: "powered on", poweredOff: "powered off", suspended: "suspended" };

const element = (id) => document.getElementById(id);
const link = readLink();

let rfb = null; // noVNC's session while connected
let fit = link.fit;
let viewOnly = link.viewOnly;
let abort = new AbortController(); // ends the session
let typing = new AbortController(); // ends the typing of pasted text

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
    runSession(link.token, element("screen"), own.signal, (state) => abort === own && show(state));
}

// --- What the page shows

function show({ phase, vm, opened, reason, retry, rfb: session = null }) {
    const gained = session !== null && rfb === null;
    rfb = session;

    document.body.dataset.reason = reason?.code ?? "";
    showMachine(vm);
    showPhase(phase);
    showNotice(phase, opened, reason, retry);
    applyOptions();
    const hopeless = phase === "ended" && reason.retry === "never";
    element("reconnect").hidden = hopeless;
    element("connection").disabled = hopeless;
    element("connection").textContent = phase === "ended" ? "Reconnect" : "Disconnect";
    if (gained) {
        rfb.background = "transparent";
        rfb.focus({ preventScroll: true });
    }
    if (rfb === null) {
        element("paste-dialog").close();
    }
    if (phase === "ended" && document.activeElement === document.body) {
        element("reconnect").focus();
    }
}

function showMachine(vm) {
    if (vm === null) {
        return;
    }
    document.title = `${vm.name} – console`;
    element("name").textContent = vm.name;
    element("name").title = vm.name;
    element("screen").setAttribute("aria-label", `Screen of ${vm.name}`);
    element("power").textContent = POWER_STATES[vm.powerState] ?? "";
    const time = vm.expiresAt.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    element("validity").textContent = `This link can open the console until ${time}.`;
}

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

function showNotice(phase, opened, reason, retry) {
    element("notice").hidden = reason === undefined;
    if (reason === undefined) {
        return;
    }
    element("notice-heading").textContent = opened ? "The console has ended" : "The console cannot be opened";
    element("notice-summary").textContent = reason.summary;
    element("notice-advice").textContent = reason.advice;
    element("notice-retry").hidden = phase !== "waiting";
    element("notice-retry").textContent = retry
        ? `Trying again in ${retry.seconds} s (attempt ${retry.attempt} of ${retry.of}).`
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
    element("ctrl-alt-del").disabled = !mayType;
    element("paste").disabled = !mayType;
    element("fit").setAttribute("aria-pressed", fit);
    element("view-only").setAttribute("aria-pressed", viewOnly);
}

// --- What the person does

function wireButtons() {
    onClick("ctrl-alt-del", () => {
        rfb.sendCtrlAltDel();
        rfb.focus();
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
    onClick("paste", () => element("paste-dialog").showModal());
    onClick("paste-type", typePastedText);
    onClick("paste-clipboard", () => {
        rfb?.clipboardPasteFrom(element("paste-text").value);
        element("paste-dialog").close();
    });
    element("paste-dialog").addEventListener("close", whenPasteDialogCloses);
    document.addEventListener("fullscreenchange", () => {
        element("full-screen").setAttribute("aria-pressed", document.fullscreenElement !== null);
    });
}

function onClick(id, action) {
    element(id).addEventListener("click", action);
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

async function typePastedText() {
    const button = element("paste-type");
    button.disabled = true;
    typing = new AbortController();
    await typeText(rfb, element("paste-text").value, typing.signal, (typed, of) => {
        element("paste-progress").textContent = `Typed ${typed} of ${of}`;
    });
    button.disabled = false;
    element("paste-dialog").close();
}

function whenPasteDialogCloses() {
    typing.abort();
    // It may have been a password.
    element("paste-text").value = "";
    element("paste-progress").textContent = "";
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
