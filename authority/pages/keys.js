// The bar of keys: those that a touch screen lacks, and those that the person's own system would take for itself.

import { element } from "./element.js";
import { MODIFIERS } from "./keyboard.js";
import { say } from "./language.js";
import KeyTable from "./novnc/core/input/keysym.js";

/**
 * @typedef {import("./keyboard.js").Keyboard} Keyboard
 * @typedef {import("./keyboard.js").Key} Key
 */

/** @type {Record<string, string>} */
const MODIFIER_NAMES = { ControlLeft: "Ctrl", AltLeft: "Alt", MetaLeft: "Win", ShiftLeft: "Shift", AltRight: "AltGr" };

/** @type {(code: string) => Key} */
const modifier = (code) => ({ keysym: MODIFIERS[code], code });
const CTRL = modifier("ControlLeft");
const ALT = modifier("AltLeft");

/** @type {Record<string, Key>} */
const KEYS = {
    Tab: { keysym: KeyTable.XK_Tab, code: "Tab" },
    Esc: { keysym: KeyTable.XK_Escape, code: "Escape" },
    "←": { keysym: KeyTable.XK_Left, code: "ArrowLeft" },
    "↑": { keysym: KeyTable.XK_Up, code: "ArrowUp" },
    "↓": { keysym: KeyTable.XK_Down, code: "ArrowDown" },
    "→": { keysym: KeyTable.XK_Right, code: "ArrowRight" },
    Ins: { keysym: KeyTable.XK_Insert, code: "Insert" },
    Del: { keysym: KeyTable.XK_Delete, code: "Delete" },
    Home: { keysym: KeyTable.XK_Home, code: "Home" },
    End: { keysym: KeyTable.XK_End, code: "End" },
    PgUp: { keysym: KeyTable.XK_Page_Up, code: "PageUp" },
    PgDn: { keysym: KeyTable.XK_Page_Down, code: "PageDown" },
    PrintScreen: { keysym: KeyTable.XK_Print, code: "PrintScreen" },
};

/** @type {Record<string, Key>} */
const FUNCTION_KEYS = Object.fromEntries(Array.from({ length: 12 }, (_, index) => {
    const name = `F${index + 1}`;
    return [name, { keysym: KeyTable.XK_F1 + index, code: name }];
}));

/** @type {Record<string, Key[]>} */
const COMBINATIONS = {
    "Ctrl+Alt+Del": [CTRL, ALT, KEYS.Del],
    "Ctrl+Alt+Backspace": [CTRL, ALT, { keysym: KeyTable.XK_BackSpace, code: "Backspace" }],
    "Alt+Tab": [ALT, KEYS.Tab],
    "Alt+F4": [ALT, FUNCTION_KEYS.F4],
    "Win+R": [modifier("MetaLeft"), { keysym: KeyTable.XK_r, code: "KeyR" }],
    // A PC keyboard has SysRq on PrintScreen, with Alt.
    "Alt+SysRq": [ALT, { keysym: KeyTable.XK_Sys_Req, code: "PrintScreen" }],
    ...Object.fromEntries(Object.entries(FUNCTION_KEYS).map(([name, key]) => [`Ctrl+Alt+${name}`, [CTRL, ALT, key]])),
};

/**
 * Fills the bar. Its buttons leave the focus where it is, so that a soft keyboard stays open.
 *
 * @param {Keyboard} keyboard
 */
export function fillKeyBar(keyboard) {
    for (const code of Object.keys(MODIFIERS)) {
        const button = addButton("keys-modifiers", MODIFIER_NAMES[code], () => keyboard.toggle(code));
        button.dataset.modifier = code;
        button.setAttribute("aria-pressed", "false");
    }
    for (const [name, key] of Object.entries(KEYS)) {
        addButton("keys-single", name, () => keyboard.press([key])).dataset.key = key.code;
    }
    for (const [name, key] of Object.entries(FUNCTION_KEYS)) {
        addButton("keys-function", name, () => keyboard.press([key])).dataset.key = key.code;
    }
    const combinations = element("keys-combination", HTMLSelectElement);
    for (const name of Object.keys(COMBINATIONS)) {
        combinations.add(new Option(name));
    }
    addButton("keys-combinations", say("keys_send"), () => keyboard.press(COMBINATIONS[combinations.value]))
        .dataset.text = "keys_send";
}

/**
 * Shows which modifiers are held.
 *
 * @param {Keyboard} keyboard
 */
export function showHeld(keyboard) {
    for (const button of element("keys-modifiers").querySelectorAll("button")) {
        button.setAttribute("aria-pressed", String(keyboard.held.has(button.dataset.modifier ?? "")));
    }
}

/**
 * @param {string} group
 * @param {string} text
 * @param {() => void} action
 */
function addButton(group, text, action) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("pointerdown", (event) => event.preventDefault());
    button.addEventListener("mousedown", (event) => event.preventDefault());
    button.addEventListener("click", action);
    element(group).append(button);
    return button;
}
