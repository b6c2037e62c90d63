// What reaches the machine when a key is pressed: the key's character or its place, and modifiers that a tap holds.

import { loadTable, usKeysym } from "./layout.js";
import KeyTable from "./novnc/core/input/keysym.js";

/**
 * @typedef {import("./novnc/core/rfb.js").default} RFB
 * @typedef {{keysym: number, code: string}} Key
 */

/** @type {Record<string, number>} Modifiers that can be held by a tap, by their codes. */
export const MODIFIERS = {
    ControlLeft: KeyTable.XK_Control_L,
    AltLeft: KeyTable.XK_Alt_L,
    MetaLeft: KeyTable.XK_Super_L,
    ShiftLeft: KeyTable.XK_Shift_L,
    AltRight: KeyTable.XK_Alt_R,
};

const MODIFIER_CODES = new Set([...Object.keys(MODIFIERS), "ControlRight", "MetaRight", "ShiftRight"]);

/** The keyboard of the session. */
export class Keyboard {
    /** @param {() => void} onHeld is called when other modifiers are held than before */
    constructor(onHeld) {
        this.onHeld = onHeld;
        /** @type {RFB | null} */
        this.rfb = null;
        /** @type {Set<string>} codes of the modifiers that a tap holds until the next key */
        this.held = new Set();
        /** @type {import("./layout.js").Table | null} the US layout while keys are sent by their place */
        this.us = null;
        this.shift = false;
    }

    /**
     * Sends what the person presses in a new session by this keyboard's rules.
     *
     * @param {RFB} rfb
     */
    attach(rfb) {
        this.rfb = rfb;
        this.held.clear();
        this.shift = false;
        const send = rfb.sendKey.bind(rfb);
        rfb.sendKey = (keysym, code, down) => {
            if (down === undefined) {
                send(keysym, code); // which comes back for either half
                return;
            }
            if (code === "ShiftLeft" || code === "ShiftRight") {
                this.shift = down;
            }
            send(this.translate(keysym, code), code, down);
            if (!down && !MODIFIER_CODES.has(code ?? "")) {
                this.releaseAll();
            }
        };
        this.onHeld();
    }

    detach() {
        this.rfb = null;
        this.held.clear();
        this.onHeld();
    }

    /**
     * Whether a key is sent by its place on the keyboard, for a guest that has the person's layout: as the key of a
     * US keyboard at that place, which the console server turns into a scan code.
     *
     * @param {boolean} byPlace
     */
    async sendPlaces(byPlace) {
        this.us = byPlace ? await loadTable("us") : null;
    }

    /**
     * @param {number} keysym
     * @param {string | null} code
     */
    translate(keysym, code) {
        if (this.us === null) {
            return keysym;
        }
        return code === "AltRight" ? KeyTable.XK_Alt_R : usKeysym(this.us, code, this.shift) ?? keysym;
    }

    /**
     * Presses keys one after the other and releases them in the reverse order.
     *
     * @param {readonly Key[]} keys
     */
    press(keys) {
        const { rfb } = this;
        if (rfb === null) {
            return;
        }
        for (const { keysym, code } of keys) {
            rfb.sendKey(keysym, code, true);
        }
        for (const { keysym, code } of [...keys].reverse()) {
            rfb.sendKey(keysym, code, false);
        }
    }

    /**
     * Holds a modifier until the next key, or lets go of it.
     *
     * @param {string} code
     */
    toggle(code) {
        if (this.held.has(code)) {
            this.release(code);
        } else if (this.rfb !== null) {
            this.held.add(code);
            this.rfb.sendKey(MODIFIERS[code], code, true);
        }
        this.onHeld();
    }

    releaseAll() {
        if (this.held.size > 0) {
            Array.from(this.held).forEach((code) => this.release(code));
            this.onHeld();
        }
    }

    /** @param {string} code */
    release(code) {
        this.held.delete(code);
        this.rfb?.sendKey(MODIFIERS[code], code, false);
    }
}
