// The soft keyboard of a touch screen: what it writes into a text field becomes key presses.

import { element, onClick } from "./element.js";
import KeyTable from "./novnc/core/input/keysym.js";
import NovncKeyboard from "./novnc/core/input/keyboard.js";
import { typeCharacter } from "./typing.js";

/**
 * @typedef {import("./novnc/core/rfb.js").default} RFB
 * @typedef {import("./layout.js").Layout} Layout
 */

// A soft keyboard tells of Backspace only where there is something to delete.
const FILLER = "_".repeat(100);

/**
 * @param {() => RFB | null} session
 * @param {() => Layout | null} layout
 */
export function wireSoftKeyboard(session, layout) {
    const field = element("soft-keyboard", HTMLTextAreaElement);
    let last = "";
    const reset = () => {
        field.value = FILLER;
        last = FILLER;
        field.setSelectionRange(FILLER.length, FILLER.length);
    };

    // Keys that the soft keyboard does name, and those of a real keyboard while the field has the focus.
    const keys = new NovncKeyboard(field);
    keys.onkeyevent = (keysym, code, down) => session()?.sendKey(keysym, code, down);
    keys.grab();

    // What it does not name is found by what has changed: a word that it corrects is deleted and written again.
    field.addEventListener("input", () => {
        const rfb = session();
        const keyLayout = layout();
        const [before, after] = [Array.from(last), Array.from(field.value)];
        let same = 0;
        while (same < before.length && before[same] === after[same]) {
            same += 1;
        }
        if (rfb !== null && keyLayout !== null) {
            before.slice(same).forEach(() => rfb.sendKey(KeyTable.XK_BackSpace, "Backspace"));
            after.slice(same).forEach((character) => typeCharacter(rfb, keyLayout, character));
        }
        last = field.value;
        if (after.length > 2 * FILLER.length || after.length < FILLER.length / 2) {
            reset();
        }
    });
    field.addEventListener("focus", reset);

    onClick("soft-keyboard-show", () => {
        if (document.activeElement === field) {
            field.blur();
        } else {
            field.focus();
        }
    });
    // The button must not take the focus, or the soft keyboard would close before the click.
    for (const event of ["pointerdown", "mousedown"]) {
        element("soft-keyboard-show").addEventListener(event, (pressed) => pressed.preventDefault());
    }
    for (const [event, open] of /** @type {const} */ ([["focus", "true"], ["blur", "false"]])) {
        field.addEventListener(event, () => element("soft-keyboard-show").setAttribute("aria-pressed", open));
    }
}
