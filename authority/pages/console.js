// The page: shows the state of the session and handles its buttons. README.md tells the whole path.

import { element, onClick } from "./element.js";
import { askGateway } from "./gateway.js";
import { Keyboard } from "./keyboard.js";
import { fillKeyBar, showHeld } from "./keys.js";
import { duration, hasText, knowsDetails, loadDetails, say, sayDetail, speak, spokenLanguage, translate } from "./language.js";
import { loadLayout } from "./layout.js";
import { readLink } from "./link.js";
import { allowClipboard, noteClipboard, setPasteGuest, showPasteDialog, wirePasteDialog } from "./paste.js";
import { reasonOf } from "./reasons.js";
import { WakeLock, applyScreenSettings, ringBell, savePicture, toggleFullScreen } from "./screen.js";
import { canResize } from "./server.js";
import { runSession } from "./session.js";
import { Settings, askOperator } from "./settings.js";
import { showSettings, wireSettingsDialog } from "./settings_dialog.js";
import { wireSoftKeyboard } from "./soft_keyboard.js";
import { onReturn } from "./wait.js";

/**
 * @typedef {import("./novnc/core/rfb.js").default} RFB
 * @typedef {import("./layout.js").Layout} Layout
 * @typedef {import("./session.js").State} State
 * @typedef {import("./typing.js").Speed} Speed
 */

// How long before its end the page says that a session may not last.
const WARNING_S = 120;

/** @type {[string, number][]} What an answer within so many milliseconds is called. */
const QUALITIES = [["good", 100], ["fair", 300], ["poor", Infinity]];

const link = readLink();
const operator = await askOperator();
const settings = new Settings(link.settings, operator);
await speakAsSet();
if (link.title !== "") {
    // Until the machine is known. It is in the tab alone, where nobody takes it for the page's own words.
    document.title = link.title;
}
let title = link.title; // of the tab while the console is open

/** @type {State | null} what the page shows */
let shown = null;
/** @type {RFB | null} noVNC's session while connected. */
let rfb = null;
/** @type {Layout | null} the guest's, once its table has arrived. */
let layout = null;
let viewOnly = link.viewOnly;
let abort = new AbortController(); // ends the session
let asking = new AbortController(); // ends the questions to the gateway
/** @type {import("./gateway.js").Answer | null} the last answer, while connected */
let answer = null;
let guestClipboard = "";
let lastInput = 0; // when the person last did something at the screen
const keyboard = new Keyboard(() => showHeld(keyboard));
const wakeLock = new WakeLock();

showOperator();
wireButtons();
leaveScreenByCtrlAlt();
noteInput();
applyTheme();
// A link pasted over this one changes the fragment alone, which loads nothing.
addEventListener("hashchange", () => location.reload());
addEventListener("beforeunload", askBeforeClosing);
setInterval(showSessionEnd, 1000);
onReturn(connectAgain);
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

// The attempts may be used up of a console that went while nobody looked.
function connectAgain() {
    if (shown?.phase === "ended" && shown.reason.retry === "auto") {
        connect();
    }
}

// --- What the page shows

/** @param {State} state */
function show(state) {
    shown = state;
    const ended = state.phase === "ended";
    const session = state.phase === "connected" ? state.rfb : null;
    const before = rfb;
    rfb = session;

    document.body.dataset.reason = reasonIn(state)?.code ?? "";
    showMachine(state);
    showPhase(state.phase);
    showNotice(state);
    showSessionEnd();
    const hopeless = ended && state.reason.retry === "never";
    element("reconnect").hidden = hopeless;
    const connection = element("connection", HTMLButtonElement);
    connection.disabled = hopeless;
    connection.textContent = say(ended ? "reconnect" : "disconnect");
    if (session !== before) {
        keyboard.detach();
        setGuestClipboard("");
        asking.abort();
        showAnswer(null);
    }
    if (session !== null && session !== before) {
        start(session);
    }
    wakeLock.want(session !== null);
    applySettings();
    if (ended && document.activeElement === document.body) {
        element("reconnect").focus();
    }
}

/** @param {RFB} session */
function start(session) {
    session.background = "transparent";
    keyboard.attach(session);
    session.addEventListener("bell", () => settings.get("bell") === "yes" && ringBell());
    session.addEventListener("clipboard", ({ detail: { text } }) => {
        noteClipboard();
        setGuestClipboard(text);
    });
    session.focus({ preventScroll: true });
    const own = new AbortController();
    asking = own;
    askGateway(link.token ?? "", own.signal, showAnswer);
}

/** @param {import("./gateway.js").Answer | null} next */
function showAnswer(next) {
    answer = next;
    const roundTrip = element("round-trip");
    const others = element("others");
    others.hidden = !answer?.others;
    roundTrip.dataset.quality = "";
    roundTrip.textContent = "";
    if (answer === null) {
        return;
    }
    const { ms, others: count, users } = answer;
    if (ms === null) {
        roundTrip.textContent = say("no_round_trip");
    } else {
        const [quality] = QUALITIES.find(([, most]) => ms <= most) ?? ["poor"];
        roundTrip.dataset.quality = quality;
        roundTrip.textContent = say(`round_trip.${quality}`, { ms });
    }
    if (count) {
        const text = say("others", { count });
        others.textContent = users.length > 0 ? `${text} (${users.join(", ")})` : text;
        others.title = others.textContent;
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
    if (settings.machine !== vm.instance) {
        settings.machine = vm.instance;
        loadGuestLayout();
    }
    title = say("title", { name: vm.name });
    element("name").textContent = vm.name;
    element("name").title = vm.name;
    element("screen").setAttribute("aria-label", say("screen_of", { name: vm.name }));
    const power = `power.${vm.powerState}`;
    element("power").textContent = hasText(power) ? say(power) : "";
    const time = vm.expiresAt.toLocaleTimeString(spokenLanguage(), { hour: "2-digit", minute: "2-digit" });
    const validity = vm.singleUse ? opened ? "link_is_used_up" : "link_opens_once" : "link_opens";
    element("validity").textContent = say(validity, { time });
}

/** @param {State["phase"]} phase */
function showPhase(phase) {
    const isAway = phase === "waiting" || phase === "ended";
    if (title !== "") {
        document.title = isAway ? `${say(`phase.${phase}`)} – ${title}` : title;
    }
    element("state").dataset.phase = phase;
    element("state").textContent = say(`phase.${phase}`);
}

/** @param {State} state */
function showNotice(state) {
    const reason = reasonIn(state);
    element("notice").hidden = reason === undefined;
    if (reason === undefined) {
        return;
    }
    const { code } = reason;
    const detail = detailOf(reason);
    const known = hasText(`reason.${code}`) ? code : "unknown";
    element("notice-heading").textContent = say(state.opened ? "notice_ended" : "notice_not_opened");
    element("notice-summary").textContent = say(`reason.${known}`);
    const advice = say(`advice.${known}`, { detail });
    element("notice-advice").textContent = advice;
    element("notice-retry").hidden = state.phase !== "waiting";
    element("notice-retry").textContent = state.phase === "waiting"
        ? say("notice_retry", { time: duration(state.retry.seconds), attempt: state.retry.attempt, of: state.retry.of })
        : "";
    element("notice-code").textContent = detail === "" || advice.includes(detail) ? code : `${code}: ${detail}`;
    if (reason.detail !== "" && !knowsDetails()) {
        // Until they are there, or if they do not arrive, it is in English.
        loadDetails().then(() => shown === state && showNotice(state), () => {});
    }
}

/** @param {import("./reasons.js").Reason} reason */
function detailOf({ detail, sentences }) {
    return sentences?.map(({ key, values }) => say(key, values)).join(" ") ?? sayDetail(detail);
}

// Says in time that the session may not last, and counts down.
function showSessionEnd() {
    let left = Infinity;
    if (shown?.phase === "connected" && shown.vm !== null) {
        const { sessionSeconds, idleSeconds } = shown.vm;
        const since = (/** @type {number} */ time) => (Date.now() - time) / 1000;
        const started = shown.since.getTime();
        const ends = Math.min(sessionSeconds - since(started), idleSeconds - since(Math.max(lastInput, started)));
        left = Math.max(0, Math.ceil(ends));
    }
    element("session-end").hidden = left > WARNING_S;
    if (left <= WARNING_S) {
        element("session-end").textContent = say("session_ends", { time: duration(left) });
    }
}

function applySettings() {
    const restricted = shown?.vm?.viewOnly === true;
    if (rfb !== null) {
        applyScreenSettings(rfb, settings);
        rfb.viewOnly = viewOnly || restricted;
    }
    const mayType = rfb !== null && !viewOnly && !restricted;
    for (const id of ["ctrl-alt-del", "keys", "paste"]) {
        element(id, HTMLButtonElement).disabled = !mayType;
    }
    element("picture", HTMLButtonElement).disabled = rfb === null;
    element("drag", HTMLButtonElement).disabled = rfb === null || settings.get("resize") !== "off";
    element("drag").setAttribute("aria-pressed", String(rfb?.dragViewport === true));
    element("key-bar").hidden = !mayType || element("keys").getAttribute("aria-expanded") !== "true";
    element("fit").setAttribute("aria-pressed", String(settings.get("resize") === "scale"));
    element("fit", HTMLButtonElement).disabled = settings.isLocked("resize");
    element("view-only").setAttribute("aria-pressed", String(viewOnly || restricted));
    element("view-only", HTMLButtonElement).disabled = restricted;
    element("access").hidden = !restricted;
    allowClipboard(shown?.vm?.clipboard !== false);
    setPasteGuest(rfb === null || layout === null
        ? null : { rfb, layout, speed: /** @type {Speed} */ (settings.get("speed")) });
}

async function loadGuestLayout() {
    const name = settings.get("layout");
    try {
        await keyboard.sendPlaces(settings.get("keyboard") === "positions");
        const loaded = await loadLayout(name);
        if (settings.get("layout") === name) {
            layout = loaded;
        }
        element("layout-problem").hidden = true;
    } catch {
        // Offline: the layout of before stays, and the page says so.
        element("layout-problem").hidden = false;
    }
    applySettings();
}

function applyTheme() {
    const media = { auto: "(prefers-color-scheme: light)", light: "all", dark: "not all" };
    element("light", HTMLLinkElement).media = media[/** @type {keyof typeof media} */ (settings.get("theme"))];
}

async function speakAsSet() {
    const language = settings.get("language");
    await speak(language === "auto" ? navigator.languages : [language]);
}

function showOperator() {
    if (operator.title !== null) {
        element("operator").textContent = operator.title;
        element("operator").hidden = false;
    }
    if (operator.logo) {
        const logo = element("logo", HTMLImageElement);
        logo.src = "console/logo";
        logo.alt = operator.title ?? "";
        logo.hidden = false;
    }
    for (const button of document.querySelectorAll("header .tools button")) {
        button.classList.toggle("left-out", !mayHave(button.id));
    }
}

/**
 * Whether the operator lets the page have this button.
 *
 * @param {string} id
 */
function mayHave(id) {
    return id === "connection" || operator.buttons === null || operator.buttons.includes(id.replaceAll("-", "_"));
}

/** @param {string} text */
function setGuestClipboard(text) {
    guestClipboard = text;
    element("copy").hidden = text === "" || !navigator.clipboard?.writeText;
}

// --- What the person does

function wireButtons() {
    fillKeyBar(keyboard);
    wireSoftKeyboard(() => rfb, () => layout);
    wirePasteDialog();
    wireSettingsDialog(settings, isOffered, whenSettingChanged);
    onClick("ctrl-alt-del", () => {
        rfb?.sendCtrlAltDel();
        rfb?.focus();
    });
    onClick("keys", () => {
        const open = element("keys").getAttribute("aria-expanded") !== "true";
        element("keys").setAttribute("aria-expanded", String(open));
        keyboard.releaseAll();
        applySettings();
    });
    onClick("fit", () => {
        settings.set("resize", settings.get("resize") === "scale" ? "off" : "scale");
        applySettings();
    });
    onClick("drag", () => {
        if (rfb !== null) {
            rfb.dragViewport = !rfb.dragViewport;
            applySettings();
        }
    });
    onClick("view-only", () => {
        viewOnly = !viewOnly;
        applySettings();
    });
    onClick("full-screen", async () => {
        await toggleFullScreen();
        rfb?.focus();
    });
    onClick("picture", () => rfb !== null && savePicture(rfb, shown?.vm?.name ?? "console"));
    onClick("copy", copyGuestClipboard);
    onClick("connection", () => {
        if (element("state").dataset.phase === "ended") {
            connect();
        } else {
            setPasteGuest(null); // noVNC drops keys as soon as it disconnects
            abort.abort();
        }
    });
    onClick("reconnect", connect);
    onClick("paste", showPasteDialog);
    // Safari has full screen since 16.4, and not on an iPhone.
    element("full-screen").hidden = !document.fullscreenEnabled;
    document.addEventListener("fullscreenchange", () => {
        element("full-screen").setAttribute("aria-pressed", String(document.fullscreenElement !== null));
    });
}

/**
 * Whether a value can be chosen now.
 *
 * @param {import("./settings.js").Name} name
 * @param {string} value
 */
function isOffered(name, value) {
    return name !== "resize" || value !== "remote" || rfb === null || canResize(rfb);
}

/** @param {import("./settings.js").Name} name */
async function whenSettingChanged(name) {
    switch (name) {
        case "language":
            await speakAsSet();
            translate(document);
            showSettings(settings, isOffered);
            if (shown !== null) {
                show(shown);
            }
            showAnswer(answer);
            break;
        case "layout":
        case "keyboard":
            await loadGuestLayout();
            break;
        case "theme":
            applyTheme();
            break;
        default:
            applySettings();
    }
}

async function copyGuestClipboard() {
    try {
        await navigator.clipboard.writeText(guestClipboard);
        setGuestClipboard("");
    } catch {
        element("copy").textContent = say("clipboard_refused");
    }
    rfb?.focus();
}

/** @param {BeforeUnloadEvent} event */
function askBeforeClosing(event) {
    if (rfb !== null && settings.get("ask_before_closing") === "yes") {
        event.preventDefault();
        event.returnValue = true; // browsers of before 2023
    }
}

function noteInput() {
    for (const event of ["keydown", "pointermove", "pointerdown", "wheel"]) {
        element("screen").addEventListener(event, () => { lastInput = Date.now(); }, { capture: true, passive: true });
    }
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
