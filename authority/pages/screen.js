// The screen: its size in the window, the picture's quality, a picture to keep, and what the browser does meanwhile.

import { element } from "./element.js";

/**
 * @typedef {import("./novnc/core/rfb.js").default} RFB
 * @typedef {import("./settings.js").Settings} Settings
 */

const BELL_HZ = 880;
const BELL_S = 0.15;

/**
 * Gives the session the settings of its screen.
 *
 * @param {RFB} rfb
 * @param {Settings} settings
 */
export function applyScreenSettings(rfb, settings) {
    const resize = settings.get("resize");
    rfb.resizeSession = resize === "remote";
    // A server that does not give its screen the window's size has it scaled.
    rfb.scaleViewport = resize !== "off";
    rfb.qualityLevel = Number(settings.get("quality"));
    rfb.compressionLevel = Number(settings.get("compression"));
    // At 1:1 a screen that is larger than the window is seen in part, and dragging moves the part.
    rfb.clipViewport = resize === "off";
    if (resize !== "off") {
        rfb.dragViewport = false;
    }
}

/**
 * Offers what the screen shows as a file.
 *
 * @param {RFB} rfb
 * @param {string} name the machine's
 */
export function savePicture(rfb, name) {
    rfb.toBlob((blob) => {
        if (blob === null) {
            return; // a screen without pixels
        }
        const link = document.createElement("a");
        link.href = URL.createObjectURL(blob);
        const time = new Date().toISOString().slice(0, 19).replaceAll(":", "");
        link.download = `${name.replace(/[^\w.-]+/g, "_")}-${time}.png`;
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    }, "image/png");
}

/** The guest's bell: a tone, and a flash for those who do not hear it. */
export function ringBell() {
    const screen = element("screen");
    screen.classList.remove("bell");
    requestAnimationFrame(() => screen.classList.add("bell"));
    const audio = new AudioContext();
    const tone = audio.createOscillator();
    const volume = audio.createGain();
    volume.gain.value = 0.1;
    tone.frequency.value = BELL_HZ;
    tone.connect(volume).connect(audio.destination);
    tone.onended = () => { audio.close(); };
    tone.start();
    tone.stop(audio.currentTime + BELL_S);
}

/** Keeps the person's display on while a console is open. */
export class WakeLock {
    constructor() {
        this.wanted = false;
        /** @type {{release(): Promise<void>} | null} */
        this.lock = null;
        // The browser lets go of it when the page is hidden.
        document.addEventListener("visibilitychange", () => this.update());
    }

    /** @param {boolean} wanted */
    want(wanted) {
        if (wanted !== this.wanted) {
            this.wanted = wanted;
            this.update();
        }
    }

    async update() {
        if (!this.wanted) {
            const { lock } = this;
            this.lock = null;
            await lock?.release();
        } else if (document.visibilityState === "visible") {
            // Missing in Firefox before 126 and Safari before 16.4; refused when the battery is low.
            const lock = await navigator.wakeLock?.request("screen").catch(() => null) ?? null;
            if (this.wanted) {
                this.lock = lock;
            } else {
                await lock?.release(); // the console has ended meanwhile
            }
        }
    }
}

export async function toggleFullScreen() {
    if (document.fullscreenElement !== null) {
        await document.exitFullscreen();
        return;
    }
    await document.documentElement.requestFullscreen();
    // Alt+Tab, Ctrl+W and Esc reach the machine as well, in browsers that can; holding Esc still leaves.
    await navigator.keyboard?.lock();
}
