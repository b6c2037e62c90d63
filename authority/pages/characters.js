// Characters that cannot be sent, in words.

// Characters that a list would not show, or that would change how it looks.
const NOT_SHOWN = /[\p{C}\p{Z}\p{M}]/u;

// How many different ones a list names.
const NAMED_MAX = 12;

/** Counts characters. */
export class Tally {
    constructor() {
        /** @type {Map<string, number>} */
        this.counts = new Map();
    }

    /** @param {string} character */
    add(character) {
        this.counts.set(character, (this.counts.get(character) ?? 0) + 1);
    }

    get empty() {
        return this.counts.size === 0;
    }

    /**
     * Each different one once, in the order of the text: `é (U+00E9), U+001B (3 times)`.
     *
     * @param {(count: number) => string} times words for "so many times"
     * @param {(count: number) => string} others words for "and so many others"
     */
    list(times, others) {
        const all = Array.from(this.counts, ([character, count]) => nameOf(character, count > 1 ? times(count) : ""));
        const more = all.length > NAMED_MAX ? ` ${others(all.length - NAMED_MAX)}` : "";
        return all.slice(0, NAMED_MAX).join(", ") + more;
    }
}

/**
 * @param {string} character
 * @param {string} times
 */
function nameOf(character, times) {
    const point = /** @type {number} */ (character.codePointAt(0));
    const number = `U+${point.toString(16).toUpperCase().padStart(4, "0")}`;
    if (NOT_SHOWN.test(character)) {
        return times ? `${number} (${times})` : number;
    }
    return `${character} (${times ? `${number}, ${times}` : number})`;
}
