// What the provider knows, in memory, so that a test can revoke and age it.

const kinds = new Map();

function all(kind) {
  if (!kinds.has(kind)) kinds.set(kind, new Map());
  return kinds.get(kind);
}

const now = () => Math.floor(Date.now() / 1000);

// The adapter that the library asks for; one object for each kind of thing.
export class Store {
  constructor(kind) {
    this.things = all(kind);
  }

  async upsert(id, thing) {
    this.things.set(id, thing);
  }

  async find(id) {
    return this.things.get(id);
  }

  async findByUid(uid) {
    return [...this.things.values()].find((thing) => thing.uid === uid);
  }

  async consume(id) {
    this.things.get(id).consumed = now();
  }

  async destroy(id) {
    this.things.delete(id);
  }

  async revokeByGrantId(grantId) {
    for (const [id, thing] of this.things) {
      if (thing.grantId === grantId) this.things.delete(id);
    }
  }
}

const TOKENS = ['AccessToken', 'RefreshToken', 'AuthorizationCode'];

// Ends everything that the user has authorized, and says how many authorizations that were.
export function revoke(user) {
  let ended = 0;
  for (const [id, grant] of all('Grant')) {
    if (grant.accountId === user) {
      all('Grant').delete(id);
      ended += 1;
    }
  }
  for (const kind of TOKENS) {
    for (const [id, token] of all(kind)) {
      if (token.accountId === user) all(kind).delete(id);
    }
  }
  return ended;
}

// As if that many seconds had passed for the user's tokens.
export function age(user, seconds) {
  for (const kind of TOKENS) {
    for (const token of all(kind).values()) {
      if (token.accountId === user) token.exp -= seconds;
    }
  }
}
